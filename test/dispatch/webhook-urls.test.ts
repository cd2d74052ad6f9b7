import { webhookUrl } from '../../src/dispatch/webhook-urls.js'

const judged = (
  url: string,
  privateNetworks: 'allow' | 'refuse' = 'allow',
  allowed: readonly string[] = [],
  rewriteLoopbackTo?: string,
) => {
  const verdict = webhookUrl(url, { outbound: { privateNetworks, allowed }, rewriteLoopbackTo })
  return 'url' in verdict ? verdict.url : 'refused'
}

describe('the URL of a webhook (spec/06 §3.4)', () => {
  it.each([
    'http://localhost:3000/x',
    'http://127.0.0.1:3000/x',
    'http://127.9.9.9/x',
    'http://[::1]:3000/x',
    'http://runtime:3000/x',
    'https://runtime.example/x',
    'https://93.184.216.34/x',
  ])('%s is called where private networks may be', (url) => {
    expect(judged(url)).toBe(url)
  })

  it.each([
    'http://10.0.0.1/x',
    'http://172.16.0.1/x',
    'http://192.168.0.1/x',
    'http://169.254.169.254/latest',
    'http://0x0a000001/x',
    'http://167772161/x',
    'http://93.184.216.34/x',
    'http://[fd00::1]/x',
    'http://[::ffff:10.0.0.1]/x',
    'https://localhost/x',
    'https://localhost./x',
    'https://a.localhost/x',
    'https://10.0.0.1/x',
    'https://127.0.0.1/x',
    'https://0.0.0.0/x',
    'https://169.254.169.254/x',
    'https://[2606:2800:220:1::1]/x',
    'ftp://x.example/x',
    '/x',
    'x.example',
    '',
    `https://x.example/${'x'.repeat(4_000)}`,
  ])('%s is refused even there', (url) => {
    expect(judged(url)).toBe('refused')
  })

  it.each(['http://localhost:3000/x', 'http://127.0.0.1:3000/x', 'http://runtime:3000/x'])('%s is refused where they may not be', (url) => {
    expect(judged(url, 'refuse')).toBe('refused')
  })

  it.each([
    ['http://runtime:3000/x', ['runtime']],
    ['http://10.1.2.3/x', ['10.1.0.0/16']],
    ['https://10.1.2.3/x', ['10.1.2.3']],
    ['https://localhost/x', ['localhost']],
    ['https://[fd00::1]/x', ['fd00::/8']],
  ])('%s is called where the operator says so: %j', (url, allowed) => {
    expect(judged(url, 'refuse', allowed)).toBe(url)
  })

  it('on a loopback host leads to where the operator says that it is (spec/13 §5.2)', () => {
    expect(judged('http://localhost:3000/x', 'refuse', ['box'], 'box')).toBe('http://box:3000/x')
    expect(judged('http://localhost:3000/x', 'refuse', ['10.0.0.9'], 'http://10.0.0.9:99')).toBe('http://10.0.0.9:99/x')
    expect(judged('http://elsewhere:3000/x', 'refuse', ['box'], 'box')).toBe('refused')
  })
})
