import { entityCreated, entryOf, identity, identityUpdate, inbox, signalEvent, slashCommand, uuidFrom } from '../../src/domain/events.js'
import type { EntityUrl, PrincipalUrl } from '../../src/domain/ids.js'
import { parsePrincipal } from '../../src/domain/principals.js'
import { receive, type Signal } from '../../src/domain/signals.js'

const atMs = Date.parse('2026-11-22T09:34:13.655Z')
const sam = '/principal/user%3Asam' as PrincipalUrl

describe('entity_created (spec/01 §7.11)', () => {
  it('names type, time, arguments and parent', () => {
    expect(entityCreated({ type: 'chat', args: { topic: 'x' }, parent: '/chat/root' as EntityUrl, atMs })).toEqual({
      type: 'entity_created',
      key: 'entity-created',
      value: { entity_type: 'chat', timestamp: '2026-11-22T09:34:13.655Z', args: { topic: 'x' }, parent_url: '/chat/root' },
      headers: { operation: 'insert' },
    })
  })

  it('leaves the parent out where there is none', () => {
    expect(entityCreated({ type: 'chat', args: {}, parent: null, atMs }).value).toEqual({
      entity_type: 'chat',
      timestamp: '2026-11-22T09:34:13.655Z',
      args: {},
    })
  })
})

describe('slash_command (spec/01 §7.16)', () => {
  it('is a static row under the name of the command', () => {
    const command = { name: 'goal', description: 'Session goal', arguments: [{ name: 'sub', type: 'string' as const, required: true }] }

    expect(slashCommand(command, atMs)).toEqual({
      type: 'slash_command',
      key: 'goal',
      value: { ...command, source: 'static', updated_at: '2026-11-22T09:34:13.655Z' },
      headers: { operation: 'insert' },
    })
  })
})

describe('inbox (spec/03 §2.4–2.5)', () => {
  const message = { from: sam, fromPrincipal: sam, payload: { text: 'hi' }, atMs, seed: 'one' }

  it.each(['immediate', 'steer'] as const)('in mode %s is processed at once and has no position', (mode) => {
    const { event, txid } = inbox({ ...message, mode })

    expect(event).toEqual({
      type: 'inbox',
      key: expect.stringMatching(/^msg-in-1795340053655-[0-9a-z]{6}$/),
      value: {
        from: sam,
        payload: { text: 'hi' },
        timestamp: '2026-11-22T09:34:13.655Z',
        mode,
        status: 'processed',
        from_principal: sam,
        processed_at: '2026-11-22T09:34:13.655Z',
      },
      headers: { txid, operation: 'insert' },
    })
  })

  it.each(['queued', 'paused'] as const)('in mode %s is pending at the end of the queue', (mode) => {
    const { value } = inbox({ ...message, mode }).event

    expect(value).toMatchObject({ mode, status: 'pending', position: '0001795340053655:a0' })
    expect(value).not.toHaveProperty('processed_at')
  })

  it.each(['immediate', 'steer', 'queued', 'paused'] as const)('keeps an explicit position verbatim in mode %s', (mode) => {
    expect(inbox({ ...message, mode, position: '0001795340053655:a0V' }).event.value?.position).toBe('0001795340053655:a0V')
  })

  it('counts an empty position as none', () => {
    expect(inbox({ ...message, mode: 'queued', position: '' }).event.value?.position).toBe('0001795340053655:a0')
    expect(inbox({ ...message, mode: 'immediate', position: '' }).event.value).not.toHaveProperty('position')
  })

  it('has key, sender, agent and type when they are given', () => {
    const { event } = inbox({ ...message, key: 'k1', fromAgent: 'http://host/horton/abc', messageType: 'query', mode: 'immediate' })

    expect(event.key).toBe('k1')
    expect(event.value).toMatchObject({ from_agent: 'http://host/horton/abc', message_type: 'query' })
  })

  it('of a spawn has no from_principal (spec/02 §6.3)', () => {
    expect(inbox({ from: sam, payload: null, mode: 'immediate', atMs, seed: 'one' }).event.value).not.toHaveProperty('from_principal')
  })

  it('is the same again for the same seed, and another for another', () => {
    const first = inbox({ ...message, mode: 'immediate' })

    expect(inbox({ ...message, mode: 'immediate' })).toEqual(first)
    expect(inbox({ ...message, mode: 'immediate', seed: 'two' }).txid).not.toBe(first.txid)
    expect(first.txid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    expect(uuidFrom('txid one')).toBe(first.txid)
  })
})

describe('signal (spec/05 §3)', () => {
  const sent = (status: 'idle' | 'paused', signal: Signal) => {
    const effect = receive(status, signal)
    if (effect === null) throw new Error('refused')
    return signalEvent({ signal, effect, previousStatus: status, reason: 'r', payload: { x: 1 }, atMs, txid: 1101, seed: 'one' })
  }

  it('that is left to the runtime names neither states nor outcome', () => {
    expect(sent('idle', 'SIGUSR')).toEqual({
      type: 'signal',
      key: expect.stringMatching(/^sig-1795340053655-[0-9a-f]{8}$/),
      value: {
        signal: 'SIGUSR',
        status: 'unhandled',
        sender: '/_electric/server',
        timestamp: '2026-11-22T09:34:13.655Z',
        reason: 'r',
        payload: { x: 1 },
      },
      headers: { operation: 'insert', timestamp: '2026-11-22T09:34:13.655Z', txid: '1101' },
    })
  })

  it('stays silent about the states even where the row changed (paused → idle)', () => {
    expect(Object.keys(sent('paused', 'SIGCONT').value ?? {})).toEqual(['signal', 'status', 'sender', 'timestamp', 'reason', 'payload'])
  })

  it('that the server handled adds its five fields', () => {
    expect(sent('idle', 'SIGKILL').value).toEqual({
      signal: 'SIGKILL',
      status: 'handled',
      sender: '/_electric/server',
      timestamp: '2026-11-22T09:34:13.655Z',
      reason: 'r',
      payload: { x: 1 },
      handled_at: '2026-11-22T09:34:13.655Z',
      handled_by: '/_electric/server',
      outcome: 'transitioned',
      previous_state: 'idle',
      new_state: 'killed',
    })
  })

  it('that found nobody to act says ignored', () => {
    expect(sent('paused', 'SIGINT').value).toMatchObject({
      status: 'handled',
      outcome: 'ignored',
      previous_state: 'paused',
      new_state: 'paused',
    })
  })

  it('keeps an empty reason and a null payload, and leaves absent ones out', () => {
    const effect = { newStatus: 'idle', event: 'unhandled', ends: false } as const
    const bare = { signal: 'SIGINT', effect, previousStatus: 'idle', atMs, txid: 1, seed: 's' } as const

    expect(signalEvent({ ...bare, reason: '', payload: null }).value).toMatchObject({ reason: '', payload: null })
    expect(Object.keys(signalEvent(bare).value ?? {})).toEqual(['signal', 'status', 'sender', 'timestamp'])
  })
})

describe('identity (spec/01 §7.20, DEVIATE: with headers)', () => {
  it('is inserted with headers, so that clients can read the stream', () => {
    const parsed = parsePrincipal('user:bob')
    if ('refused' in parsed) throw new Error(parsed.refused)
    const now = '2026-11-22T09:34:13.655Z'

    expect(identity(parsed.principal, atMs)).toEqual({
      type: 'identity',
      key: 'self',
      value: { kind: 'user', id: 'bob', key: 'user:bob', url: '/principal/user%3Abob', created_at: now, updated_at: now },
      headers: { operation: 'insert' },
    })
  })

  it('is updated with an operation and the transaction id of its message', () => {
    expect(identityUpdate({ kind: 'user' }, 't').headers).toEqual({ operation: 'update', txid: 't' })
  })
})

describe('an entry', () => {
  it('is the JSON array of its events', () => {
    const event = { type: 'x', key: 'é', headers: { operation: 'insert' } } as const

    expect(entryOf([event, event]).toString('utf8')).toBe(JSON.stringify([event, event]))
  })
})
