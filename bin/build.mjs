import { readyOrExit } from './ready.mjs'

await readyOrExit()
