import { chooseDispatchPolicy, isWebhookUrl } from '../../src/domain/dispatch-policy.js'
import type { DispatchPolicy, DispatchTarget } from '../../src/domain/entity.js'

const policy = (target: DispatchTarget): DispatchPolicy => ({ targets: [target] })
const webhook = (url: string, subscription_id?: string) =>
  policy({ type: 'webhook', url, ...(subscription_id === undefined ? {} : { subscription_id }) })
const runner = (runnerId: string, subscription_id?: string) =>
  policy({ type: 'runner', runnerId, ...(subscription_id === undefined ? {} : { subscription_id }) })

describe('the dispatch policy of a new entity (spec/02 §7.1)', () => {
  it('is the one that was asked for', () => {
    const given = { requested: webhook('http://a'), parent: webhook('http://b'), typeDefault: webhook('http://c') }

    expect(chooseDispatchPolicy(given)).toBe(given.requested)
  })

  it('is else the parent’s, else the default of the type, else none', () => {
    expect(chooseDispatchPolicy({ parent: webhook('http://b'), typeDefault: webhook('http://c') })).toEqual(webhook('http://b'))
    expect(chooseDispatchPolicy({ parent: null, typeDefault: webhook('http://c') })).toEqual(webhook('http://c'))
    expect(chooseDispatchPolicy({ parent: null, typeDefault: null })).toBeNull()
  })

  it.each([
    ['a webhook', webhook('http://b', 'own'), webhook('http://b', 'shared'), webhook('http://b', 'shared')],
    ['a runner', runner('r1'), runner('r1', 'shared'), runner('r1', 'shared')],
  ])('takes over the subscription where parent and type name the same destination: %s', (_, parent, typeDefault, chosen) => {
    expect(chooseDispatchPolicy({ parent, typeDefault })).toEqual(chosen)
  })

  it.each([
    ['another webhook', webhook('http://b', 'own'), webhook('http://c', 'shared')],
    ['another kind of target', runner('http://b'), webhook('http://b', 'shared')],
    ['a default without subscription', webhook('http://b', 'own'), webhook('http://b')],
  ])('keeps the parent’s as it is beside %s', (_, parent, typeDefault) => {
    expect(chooseDispatchPolicy({ parent, typeDefault })).toBe(parent)
  })
})

describe('a webhook URL (spec/01 §5.2, DEVIATE)', () => {
  it.each([
    ['http://localhost:4448/hook', true],
    ['https://host', true],
    ['not a url', false],
    ['/hook', false],
    ['ftp://host', false],
    ['javascript:alert(1)', false],
    ['', false],
  ])('%s: %p', (url, is) => {
    expect(isWebhookUrl(url)).toBe(is)
  })
})
