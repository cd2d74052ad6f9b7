/**
 * The order of test files, one for every machine: what takes longest begins first, so that no worker is left alone with it at the end; files that start
 * and kill many processes are spread over the whole run, so that seldom two of them share the processors.
 */
import { sep } from 'node:path'
import Sequencer from '@jest/test-sequencer'

const longest = ['conformance', 'dev', 'e2e']

const isIn = ({ path }, folder) => path.includes(`${sep}test${sep}${folder}${sep}`)

function rankOf(test) {
  const rank = longest.findIndex((folder) => isIn(test, folder))
  return rank === -1 ? longest.length : rank
}

export default class Order extends Sequencer {
  sort(tests) {
    const sorted = [...super.sort(tests)].sort((one, other) => rankOf(one) - rankOf(other))
    const crowded = sorted.filter((test) => isIn(test, 'faults'))
    const others = sorted.filter((test) => !isIn(test, 'faults'))
    const between = Math.ceil(others.length / Math.max(1, crowded.length))
    return [
      ...crowded.flatMap((test, index) => [test, ...others.slice(index * between, (index + 1) * between)]),
      ...others.slice(crowded.length * between),
    ]
  }
}
