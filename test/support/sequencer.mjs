/** Folders whose files take longest begin first, so that no worker is left alone with one of them at the end. */
import { sep } from 'node:path'
import Sequencer from '@jest/test-sequencer'

const longest = ['faults', 'conformance', 'dev', 'e2e']

function rankOf({ path }) {
  const rank = longest.findIndex((folder) => path.includes(`${sep}test${sep}${folder}${sep}`))
  return rank === -1 ? longest.length : rank
}

export default class LongestFirst extends Sequencer {
  sort(tests) {
    return [...super.sort(tests)].sort((one, other) => rankOf(one) - rankOf(other))
  }
}
