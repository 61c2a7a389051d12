const cds = require('@sap/cds')
const fill = require('../db/fill')

module.exports = cds.service.impl(function () {
  this.on('reset', () => fill(cds.db))
})
