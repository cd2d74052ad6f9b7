/** Entry of the workflow bundle: every workflow type, under the name that operators see. */

export { deliverWake } from './deliver-wake.js'
export { forkSubtree } from './fork-subtree.js'
export { closeEntities, signalEntities } from './signal-entities.js'
export { spawnEntities } from './spawn-entities.js'
export { stopEntity } from './stop-entity.js'
export { sweep } from './sweep.js'
