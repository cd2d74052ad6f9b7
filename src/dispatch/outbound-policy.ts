/**
 * Which addresses the server may call on behalf of a client (spec/02 §4, docs/decisions/0009-outbound-calls.md).
 *
 * Public ones always; private ones (loopback, private networks, unspecified) where the deployment says so; what is neither, among it the
 * metadata services of clouds (link-local), only where it is named. Decided on addresses, never on names: a name may resolve to anything.
 */
import { BlockList, isIP } from 'node:net'

const subnets = (list: BlockList, ...nets: readonly string[]): BlockList => {
  for (const net of nets) addNetwork(list, net)
  return list
}

const privateNetworks = subnets(
  new BlockList(),
  '0.0.0.0/32', // reaches the loopback interface
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '::/128',
  '::1/128',
  'fc00::/7',
)

/** Neither public nor a place where a runtime lives; the translated ranges could hide any IPv4 address. */
const specialNetworks = subnets(
  new BlockList(),
  '0.0.0.0/8',
  '169.254.0.0/16',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/3',
  '::/96',
  '64:ff9b::/96',
  '64:ff9b:1::/48',
  '100::/64',
  '2001::/23',
  '2001:db8::/32',
  '2002::/16',
  'fe80::/10',
  'fec0::/10',
  'ff00::/8',
)

/** Adds `address`, or `address/bits`; false where it is neither. */
function addNetwork(list: BlockList, network: string): boolean {
  const [address = '', bits, ...more] = network.split('/')
  const family = isIP(address)
  const widest = family === 4 ? 32 : 128
  if (family === 0 || more.length > 0 || (bits !== undefined && !(/^\d{1,3}$/.test(bits) && Number(bits) <= widest))) return false
  list.addSubnet(address, bits === undefined ? widest : Number(bits), family === 4 ? 'ipv4' : 'ipv6')
  return true
}

export interface OutboundPolicy {
  /** Whether a connection to `address` may be opened for a URL whose host is `host`. */
  allows(address: string, host: string): boolean
}

export interface OutboundPolicyOptions {
  readonly privateNetworks: 'allow' | 'refuse'
  /** Host names, addresses and networks (`10.1.0.0/16`) that may be called whatever they are. */
  readonly allowed?: readonly string[]
}

/** Whether the operator has named an address, or the host that it was looked up for. */
export function namedBy(allowed: readonly string[]): (address: string, host: string) => boolean {
  const networks = new BlockList()
  const hosts = new Set(allowed.filter((entry) => !addNetwork(networks, entry)).map((host) => host.toLowerCase()))
  return (address, host) =>
    hosts.has(host.toLowerCase()) || (isIP(address) !== 0 && networks.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4'))
}

export function outboundPolicy({ privateNetworks: privates, allowed = [] }: OutboundPolicyOptions): OutboundPolicy {
  const isNamed = namedBy(allowed)
  return {
    allows: (address, host) => {
      const family = isIP(address) === 6 ? 'ipv6' : 'ipv4'
      if (isIP(address) === 0) return false
      if (isNamed(address, host)) return true
      if (privateNetworks.check(address, family)) return privates === 'allow'
      return !specialNetworks.check(address, family)
    },
  }
}
