import { publicUrl } from '../../src/dispatch/public-url.js'

it.each([
  ['https://h', '/a', 'https://h/a'],
  ['https://h/t/x/', '/a', 'https://h/t/x/a'],
  ['https://h/t/x?k=v', '/a', 'https://h/t/x/a?k=v'],
  ['https://h/t/x/?k=v?w', '/a/%2e%2E/"b', 'https://h/t/x/a/%2e%2E/"b?k=v?w'],
])('a public URL keeps prefix and query of its base, and the letters of its path: %s + %s', (base, path, url) => {
  expect(publicUrl(base, path)).toBe(url)
})
