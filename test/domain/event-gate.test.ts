import { gateOf, refuseEvents } from '../../src/domain/event-gate.js'

const schemas = { note: { properties: { text: { pattern: '^(a|a)+$' } } } }
const note = (text: string) => ({ type: 'note', value: { text } })

describe('the events of one append', () => {
  it('are refused for the first that is', () => {
    expect(refuseEvents(schemas, [note('a'), note('aa')])).toBeNull()
    expect(refuseEvents(schemas, [note('a'), note('b'), { type: 'other' }])).toMatchObject({
      refusal: { code: 'SCHEMA_VALIDATION_FAILED' },
    })
    expect(refuseEvents(schemas, [note('a'), { type: 'other' }, note('b')])).toMatchObject({ refusal: { code: 'UNKNOWN_EVENT_TYPE' } })
    expect(refuseEvents(null, [{ type: 'other' }])).toBeNull()
  })

  it('are judged in parts as they are at once, and have one time for all parts', () => {
    const gate = gateOf(schemas)
    expect([gate([note('a')]), gate([note('aa')])]).toEqual([null, null])
    expect(gate([note('b')])).toMatchObject({ refusal: { code: 'SCHEMA_VALIDATION_FAILED' } })
    expect(gate([{ type: 'other' }])).toMatchObject({ refusal: { code: 'UNKNOWN_EVENT_TYPE' } })
    expect(gateOf(null)([{ type: 'other' }])).toBeNull()

    const slow = gateOf({ note: { properties: { text: { not: { pattern: '^(a|a)+b$' } } } } })
    const fits = [note('a'.repeat(22))]
    expect(slow(fits)).toBeNull()
    expect(slow(Array.from({ length: 100 }, () => note('a'.repeat(30))))).not.toBeNull() // the time is over
    expect(slow(fits)).not.toBeNull()
  })

  it('have one time together: many that are slow do not stop the server for all of theirs', () => {
    const slow = Array.from({ length: 1_000 }, () => note(`${'a'.repeat(22)}`)) // each fits; each alone would be decided in time
    const began = Date.now()

    expect(refuseEvents({ note: { properties: { text: { not: { pattern: '^(a|a)+b$' } } } } }, slow)).toMatchObject({
      refusal: { code: 'SCHEMA_VALIDATION_FAILED' },
    })
    expect(Date.now() - began).toBeLessThan(20_000)
  })
})
