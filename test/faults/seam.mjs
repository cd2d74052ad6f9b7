/**
 * Preloaded into a server or worker (`node --import`): the place where tests make it die. Production code carries nothing of it.
 *
 * It wraps public entry points of the libraries that the programs run, and says at each of them what is about to happen or has just happened, as one line of text:
 *   pg:before|sent|after <statement>         a COMMIT names the statements of its transaction
 *   temporal:before|after start <workflow>   the start of an operation
 *   streams:before|after <method> <path>     a request to a foreign stream server; ` and close` where it closes the stream
 *   http:before|after <method> <path>        the answer to a request
 * The file FAULTS_ARMED holds what to die at, if anything: {"at": <regular expression>, "nth": <count>}. Dying removes the file: once is enough.
 */
import { channel } from 'node:diagnostics_channel'
import { readFileSync, unlinkSync } from 'node:fs'
import { ServerResponse } from 'node:http'
import { isMainThread } from 'node:worker_threads'

const armedFile = process.env.FAULTS_ARMED
const seen = { armed: '', times: 0 }

function reached(line) {
  const armed = armedText()
  if (armed === '') return
  if (armed !== seen.armed) Object.assign(seen, { armed, times: 0 })
  const { at, nth } = JSON.parse(armed)
  if (!new RegExp(at).test(line)) return
  seen.times += 1
  if (seen.times >= nth) die()
}

function armedText() {
  try {
    return readFileSync(armedFile, 'utf8')
  } catch {
    return ''
  }
}

function die() {
  try {
    unlinkSync(armedFile)
  } catch {
    return // another process died of it
  }
  process.kill(process.pid, 'SIGKILL')
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0) // not one step further
}

/** The thread that runs workflows inherits the preload, and has nothing to die at: it is spared a copy of all libraries. */
if (isMainThread) {
  const { pg, WorkflowClient } = await import('../../dist/dev/libraries.js')

  const transactions = new WeakMap()
  const { query } = pg.Client.prototype
  pg.Client.prototype.query = function (...given) {
    const [config] = given
    const text = (typeof config === 'string' ? config : (config?.text ?? '')).replaceAll(/\s+/g, ' ').trim()
    if (text.startsWith('BEGIN')) transactions.set(this, [])
    else transactions.get(this)?.push(text)
    const line = text === 'COMMIT' ? `COMMIT of ${(transactions.get(this) ?? []).join('; ')}` : text
    reached(`pg:before ${line}`)
    const result = query.apply(this, given)
    reached(`pg:sent ${line}`)
    const answered = result?.answer ?? result // a prepared query of ours says its answer itself
    answered?.then?.(
      () => reached(`pg:after ${line}`),
      () => undefined,
    )
    return result
  }

  const { start } = WorkflowClient.prototype
  WorkflowClient.prototype.start = async function (type, options) {
    const line = `start ${String(type)} ${options.workflowId}`
    reached(`temporal:before ${line}`)
    const handle = await start.call(this, type, options)
    reached(`temporal:after ${line}`)
    return handle
  }
}

const { end } = ServerResponse.prototype
ServerResponse.prototype.end = function (...given) {
  reached(`http:before ${this.req.method} ${this.req.url}`)
  return end.apply(this, given)
}
channel('http.server.response.finish').subscribe(({ request }) => reached(`http:after ${request.method} ${request.url}`))

const streamLine = ({ method, path, headers }) => `${method} ${path}${String(headers).includes('stream-closed') ? ' and close' : ''}`
channel('undici:request:create').subscribe(({ request }) => reached(`streams:before ${streamLine(request)}`))
channel('undici:request:headers').subscribe(({ request }) => reached(`streams:after ${streamLine(request)}`))
