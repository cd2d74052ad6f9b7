import fc from 'fast-check'
import { type EntityUrl, zeroOffset } from '../../src/domain/ids.js'
import { maxSharedStateIdBytes, sharedStateKey, sharedStateLinks, sharedStateOf } from '../../src/domain/shared-state.js'

const prefix = '/_electric/shared-state/'
const storable = (text: string): boolean => text !== '' && !text.includes('\0') && Buffer.byteLength(text) <= maxSharedStateIdBytes
const anyId = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 300 }),
  fc.constantFrom('..', '.', '%', '%2F', 'a/b', '\0', 'a\0b', 'é'.repeat(500), 'é'.repeat(501), 'x'.repeat(1_000), 'x'.repeat(1_001)),
)
const linked = (value: unknown, key = 'k') =>
  sharedStateLinks([{ type: 'manifest', key, value: JSON.stringify(value), entity_url: '/chat/a' as EntityUrl, entry: zeroOffset }])

describe('the id of a shared state', () => {
  it('comes out of its path as it went in, or is refused where no row can hold it', () => {
    fc.assert(
      fc.property(anyId, (id) => {
        const found = sharedStateOf(prefix + encodeURIComponent(id))

        if (id === '') expect(found).toBeNull()
        else if (storable(id)) expect(found).toEqual({ id })
        else expect(found).toHaveProperty('refused')
      }),
    )
  })

  it('is one segment: nothing deeper, and nothing elsewhere, is a shared state', () => {
    fc.assert(
      fc.property(fc.webPath(), fc.webSegment(), (path, segment) => {
        expect(sharedStateOf(`${prefix}${segment}/${path}`)).toBeNull()
        expect(sharedStateOf(`/elsewhere/${segment}`)).toBeNull()
      }),
    )
  })

  it('is refused where its percent-encoding is none, whatever stands around', () => {
    const plain = fc.stringMatching(/^[a-z]{0,9}$/)
    fc.assert(
      fc.property(plain, fc.constantFrom('%', '%zz', '%f', '%ff', '%c3', '%ed%a0%80'), plain, (before, broken, after) => {
        const found = sharedStateOf(`${prefix}${before}${broken}-${after}`)

        expect(found).toEqual({ refused: 'Malformed percent-encoding in the path' })
      }),
    )
  })

  it('that the path accepts is linked by a manifest row of any form, and by no other', () => {
    fc.assert(
      fc.property(anyId, (id) => {
        const expected = [expect.objectContaining({ owner_url: '/chat/a', id: storable(id) ? id : null })]

        expect(linked({ kind: 'shared-state', id })).toEqual(expected)
        expect(linked({ kind: 'source', sourceType: 'db', sourceRef: id })).toEqual(expected)
        expect(linked({ kind: 'source', sourceType: 'db', sourceRef: 'other', config: { id } })).toEqual(expected)
        expect(linked({ kind: 'child', id })).toEqual([expect.objectContaining({ id: null })])
        expect(linked({ kind: 'source', sourceType: 'cron', sourceRef: id })).toEqual([expect.objectContaining({ id: null })])
      }),
    )
  })

  it('of any length that is accepted has a manifest key that is accepted', () => {
    fc.assert(
      fc.property(anyId.filter(storable), (id) => {
        expect(linked({ kind: 'shared-state', id }, sharedStateKey(id))).toEqual([
          { owner_url: '/chat/a', manifest_key: `shared-state:${id}`, id },
        ])
      }),
    )
  })
})
