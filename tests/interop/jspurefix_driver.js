// jspurefix under remote control: `node jspurefix_driver.js SESSION.json`, with NODE_PATH where it
// is installed. Reads one JSON object per line on stdin and writes one per line on stdout, as
// quickfix_driver.py does; clients.py is the other end. Sessions, numbers, resends, the store and
// the integrity checks are the engine's own.
'use strict'

require('reflect-metadata')
const fs = require('fs')
const readline = require('readline')
const { AsciiSession, JsFixLoggerFactory, SessionLauncher } = require('jspurefix')

function say (on, values = {}) {
  process.stdout.write(JSON.stringify({ on, ...values }) + '\n')
}

class Logger {
  constructor (type) { this.type = type }
  info () {}
  debug () {}
  warning (text) { say('log', { text: `${this.type} warning: ${text}` }) }
  error (error) { say('log', { text: `${this.type} error: ${error.message}` }) }
}

class Loggers extends JsFixLoggerFactory {
  logger (type) { return new Logger(type) }
  plain (name) { return new Logger(name) }
}

// Returns a message as the engine wants it: an object by names of fields, components and groups,
// made from [tag, value] by its own definitions. A value that is a list is a group.
function build (set, fields) {
  const values = new Map(fields)
  const used = new Set()
  const made = fill(set, values, used)
  const unknown = [...values.keys()].filter(tag => !used.has(tag))
  if (unknown.length > 0) throw new Error(`${set.name} has no ${unknown.join(', ')}`)
  return made
}

function fill (set, values, used) {
  const made = {}
  for (const field of set.fields) {
    const definition = field.definition
    if (definition.noOfField) {
      const tag = definition.noOfField.tag
      if (!values.has(tag)) continue
      used.add(tag)
      made[field.name] = values.get(tag).map(entry => build(definition, entry))
    } else if (definition.fields) {
      const inner = fill(definition, values, used)
      if (Object.keys(inner).length > 0) made[definition.name] = inner
    } else if (values.has(definition.tag)) {
      used.add(definition.tag)
      made[field.name] = values.get(definition.tag)
    }
  }
  return made
}

function pairs (text) {
  return text.split('|').filter(field => field !== '').map(field => {
    const at = field.indexOf('=')
    return [Number(field.slice(0, at)), field.slice(at + 1)]
  })
}

class Session extends AsciiSession {
  constructor (config) {
    super(config)
    // Off by default in an initiator: CheckSum, CompIDs, unknown, undefined and missing tags.
    this.checkMsgIntegrity = true
    this.text = ''
  }

  onLogon () { return true }
  onReady () { say('logon') }
  onStopped () { say('logout') }
  onDecoded (msgType, text) { this.text = text }
  onEncoded (msgType, text) { say('out', { fields: pairs(text) }) }
  onApplicationMsg () { this.received() }

  onSessionMsg (msgType, view) {
    this.received()
    super.onSessionMsg(msgType, view)
  }

  received () { say('in', { fields: pairs(this.text) }) }
}

class Launcher extends SessionLauncher {
  constructor (description) { super(description, null, new Loggers()) }

  makeFactory () {
    return { makeSession: config => (this.session = new Session(config)) }
  }
}

let launcher = null

const commands = {
  connect ({ logon }) {
    const description = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'))
    const { ResetSeqNumFlag = description.ResetSeqNumFlag, ...fields } = logon
    Object.assign(description, { ResetSeqNumFlag, Logon: fields })
    launcher = new Launcher(description)
    launcher.run()
      .catch(error => say('log', { text: `launcher error: ${error.message}` }))
      .finally(() => say('stopped'))
  },

  send ({ type, fields }) {
    const { session } = launcher
    session.send(type, build(session.config.definitions.message.get(type), fields), error => {
      if (error) say('log', { text: `send error: ${error.message}` })
    })
  },

  disconnect () {
    launcher.session.done()
  }
}

readline.createInterface({ input: process.stdin })
  .on('line', line => {
    const command = JSON.parse(line)
    commands[command.do](command)
  })
  .on('close', () => process.exit(0))

say('ready')
