import { readFile } from 'node:fs/promises'
import { referenceDocuments } from '../../src/dev/reference.js'

describe('the reference', () => {
  it.each(Object.entries(referenceDocuments))('%s says what the server does (else: npm run docs)', async (file, document) => {
    expect(await readFile(file, 'utf8')).toBe(await document())
  })
})
