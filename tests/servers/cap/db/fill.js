// Everything that the tests find at the start; the same every time.
const cds = require('@sap/cds')

const guid = n => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`
const moment = n => new Date(Date.UTC(2024, 0, 1) + n * 1000).toISOString()

// SQLite keeps a decimal as a floating-point number: no more than 15 digits each.
const zoo = [
  {
    ID: 1, flag: true, byte: 255, short: -32768, int: 2147483647, long: '9223372036854775807',
    exact: '1234.0123456789', money: '0.10', whole: '123456789012345', floating: '1.5',
    float: 0.1, day: '2024-02-29', clock: '23:59:59', moment: '2024-02-29T23:59:59Z', stamp: '2024-02-29T23:59:59.123Z',
    guid: guid(1), word: "it's + 50 % & 'more'", story: 'a\u0000b \u{1F600} \u00e9 e\u0301 \u2028 \\ " \t\r\n end',
    bytes: Buffer.from('00ff10fbff', 'hex').toString('base64'), hidden: 'x'
  },
  {
    ID: 2, flag: false, byte: 0, short: 0, int: 0, long: '0', exact: '0', money: '-0.01', whole: '-1', floating: '0.000001',
    float: -1.5e300, day: '0001-01-01', clock: '00:00:00', moment: '1970-01-01T00:00:00Z',
    stamp: '1970-01-01T00:00:00.001Z', guid: guid(2), word: '', story: '', bytes: '', hidden: 'x'
  },
  { ID: 3, word: 'all others are null' },
  {
    ID: 4, flag: true, byte: 1, short: 1, int: -2147483648, long: '-9223372036854775808', exact: '-0.0000000001',
    money: '9999999999999.99', whole: '0', floating: '123456.789', float: 5e-324, day: '9999-12-31',
    clock: '12:00:00', moment: '9999-12-31T23:59:59Z', stamp: '9999-12-31T23:59:59.999Z', guid: guid(4),
    word: '\u65e5\u672c\u8a9e', story: 'x'.repeat(100000), bytes: Buffer.alloc(64, 7).toString('base64'), hidden: 'x'
  }
]

module.exports = async db => {
  const tx = entity => `kept.${entity}`
  const managed = n => ({ createdAt: moment(0), createdBy: 'fill', modifiedAt: moment(n), modifiedBy: 'fill' })
  for (const entity of ['Items', 'Orders', 'Customers', 'Movements', 'Parts', 'Zoo', 'Lists'])
    await db.run(DELETE.from(tx(entity)))
  const put = async (entity, rows) => {
    for (let at = 0; at < rows.length; at += 500) await db.run(INSERT.into(tx(entity)).entries(rows.slice(at, at + 500)))
  }
  const count = (n, make) => Array.from({ length: n }, (_, i) => make(i + 1))
  await put('Customers', count(25, n => ({
    ID: n, name: `Customer ${n}`, city: n % 5 ? 'Walldorf' : null, address_street: `Street ${n}`, address_zip: '69190',
    ...managed(n)
  })))
  await put('Orders', count(120, n => ({
    ID: guid(n), number: String(n).padStart(10, '0'), customer_ID: (n % 25) + 1, total: (n * 1.1).toFixed(2), ...managed(n)
  })))
  const lines = count(120, n => count(n % 4, line => ({
    order_ID: guid(n), line, product: `P${line}`, quantity: n + line, price: '1.10', ...managed(n)
  })))
  await put('Items', lines.flat())
  await put('Movements', count(1234, n => ({
    ID: n, text: `Movement ${n}`, amount: (n / 8).toFixed(3), booked: moment(n * 3600).slice(0, 10),
    ...managed(Math.floor(n / 3)) // three rows share a time: pages and windows cut through them
  })))
  await put('Parts', ['1000', '20+0', 'a/b', 'z z'].flatMap(plant => count(60, n => (
    { plant, material: `${n % 2 ? 'm' : 'M'}-${n}`, stock: n }
  ))))
  await put('Zoo', zoo)
  await put('Lists', [
    { ID: 1, tags: ['a', "it's"], boxes: [{ width: 1, height: '0.100' }] },
    { ID: 2, tags: [], boxes: null }
  ])
}
