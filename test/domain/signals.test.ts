import { entityStatuses, isTerminal } from '../../src/domain/entity.js'
import { mayEnd, receive, type SignalEffect, signals } from '../../src/domain/signals.js'

/** spec/05 §2, copied as it stands there; ✖ marks that the entity ends. */
const table = `
| spawning | spawning u | spawning u | spawning u | killed h/t ✖ | spawning u | spawning u | spawning u |
| idle | idle u | idle u | stopped h/t ✖ | killed h/t ✖ | paused h/t | idle u | idle u |
| running | running u | running u | stopping u | killed h/t ✖ | paused u | running u | running u |
| paused | paused h/i | paused h/i | stopped h/t ✖ | killed h/t ✖ | paused h/i | idle u | paused h/i |
| stopping | stopping u | stopping u | stopping u | killed h/t ✖ | stopping u | stopping u | stopping u |
| stopped | 409 | 409 | 409 | 409 | 409 | 409 | 409 |
| killed | 409 | 409 | 409 | 409 | 409 | 409 | 409 |`

const columns = ['SIGINT', 'SIGHUP', 'SIGTERM', 'SIGKILL', 'SIGSTOP', 'SIGCONT', 'SIGUSR'] as const
const rows = table
  .trim()
  .split('\n')
  .map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  )
const cells = rows.flatMap(([status = '', ...row]) => columns.map((signal, index) => ({ status, signal, cell: row[index] ?? '' })))

function written(effect: SignalEffect | null): string {
  if (effect === null) return '409'
  const event = effect.event === 'unhandled' ? 'u' : effect.event.outcome === 'transitioned' ? 'h/t' : 'h/i'
  return `${effect.newStatus} ${event}${effect.ends ? ' ✖' : ''}`
}

describe('the table of signals (spec/05 §2)', () => {
  it('has a cell for every status and every signal', () => {
    expect(cells).toHaveLength(49)
    expect(new Set(rows.map(([status]) => status))).toEqual(new Set(entityStatuses))
    expect(new Set<string>(columns)).toEqual(new Set<string>(signals))
  })

  it.each(cells)('$status + $signal → $cell', ({ status, signal, cell }) => {
    const known = entityStatuses.find((candidate) => candidate === status) ?? 'killed'

    expect(written(receive(known, signal))).toBe(cell)
  })

  it('ends an entity exactly where it becomes terminal', () => {
    const effects = entityStatuses.flatMap((status) => signals.map((signal) => receive(status, signal)))

    for (const effect of effects) if (effect !== null) expect(effect.ends).toBe(isTerminal(effect.newStatus))
  })

  it('lets only SIGKILL and SIGTERM end an entity', () => {
    const enders = signals.filter((signal) => entityStatuses.some((status) => receive(status, signal)?.ends === true))

    expect(enders).toEqual(['SIGTERM', 'SIGKILL'])
    expect(signals.filter(mayEnd)).toEqual(enders)
  })
})
