/** Which URLs can be spawned at all: rows 1 and 2 of spec/02 §6.2. */
import { type AgentsError, errors } from './errors.js'
import { parseEntityUrl } from './ids.js'

/** Why nothing can be spawned at `url`, or null. */
export function spawnAddressRefusal(url: string): AgentsError | null {
  const type = url.split('/')[1] ?? ''
  if (type === 'principal') return errors.PRINCIPAL_REFUSES('spawned directly')
  if (type.startsWith('_')) return errors.TYPE_NAME_RESERVED()
  return parseEntityUrl(url) === null ? errors.INVALID_ENTITY_URL() : null
}
