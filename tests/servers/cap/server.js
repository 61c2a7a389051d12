// It ends with its standard input, which nobody but its parent holds open: so it ends when that does, however it ends.
const cds = require('@sap/cds')
const fill = require('./db/fill')

process.stdin.resume()
process.stdin.on('end', () => process.exit(0))
process.stdin.on('error', () => process.exit(0))

cds.on('served', async () => {
  await fill(cds.db)
})
cds.on('bootstrap', app => {
  // What the server itself does not say: how many requests it answered, and which.
  const seen = []
  app.use((request, _, next) => {
    if (request.path === '/seen') return next()
    seen.push(`${request.method} ${request.originalUrl}`)
    next()
  })
  app.get('/seen', (_, response) => response.json(seen.splice(0)))
})
module.exports = cds.server
