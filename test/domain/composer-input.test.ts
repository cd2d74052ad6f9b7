import { composerInputIssues } from '../../src/domain/composer-input.js'

const go = { kind: 'slash_command', start: 0, end: 3, raw: '/go', name: 'go' }
const issuesOf = (node: unknown, source = '/go x') => composerInputIssues({ source, nodes: [node] })
const at0 = (...issues: readonly (readonly [member: string, message: string])[]) =>
  issues.map(([member, message]) => ({ path: `/nodes/0/${member}`, message }))

describe('composer_input (spec/03 §6)', () => {
  it('is taken with commands, and without nodes', () => {
    expect(composerInputIssues({ source: '/go x', nodes: [go] })).toEqual([])
    expect(composerInputIssues({ source: 'hello' })).toEqual([])
    expect(composerInputIssues({ source: '', nodes: [] })).toEqual([])
  })

  it.each([[null], ['text'], [[]], [undefined], [1]])('must be an object, and says only that: %p', (payload) => {
    expect(composerInputIssues(payload)).toEqual([{ path: '/', message: 'must be an object' }])
  })

  it('reports source and nodes together, and looks at no node without a source', () => {
    expect(composerInputIssues({ source: 1, nodes: 'x' })).toEqual([
      { path: '/source', message: 'must be a string' },
      { path: '/nodes', message: 'must be an array' },
    ])
    expect(composerInputIssues({ nodes: [7] })).toEqual([{ path: '/source', message: 'must be a string' }])
    expect(composerInputIssues({ source: 'x', nodes: null })).toEqual([{ path: '/nodes', message: 'must be an array' }])
  })

  it.each([[7], [null], [[]]])('refuses the node %p', (node) => {
    expect(issuesOf(node)).toEqual([{ path: '/nodes/0', message: 'must be an object' }])
  })

  it('reports all issues of a node in the order of the chapter', () => {
    expect(issuesOf({ kind: '', start: 1.5, end: '3', raw: 7 })).toEqual(
      at0(
        ['kind', 'must be a non-empty string'],
        ['start', 'must be an integer'],
        ['end', 'must be an integer'],
        ['raw', 'must be a string'],
      ),
    )
    expect(issuesOf({ kind: 'slash_command', start: 9, end: 7, raw: 'x', name: 'Go' })).toEqual(
      at0(
        ['end', 'must be >= start'],
        ['end', 'must be within source'],
        ['raw', 'must equal source.slice(start, end)'],
        ['name', 'must be a lowercase kebab-case command name'],
      ),
    )
  })

  it('reports a negative start as that, not as an overlap with a node that is not there', () => {
    expect(issuesOf({ kind: 'x', start: -1, end: 5, raw: 'x' })).toEqual(at0(['start', 'must be >= 0']))
  })

  it('looks at places only when both are integers', () => {
    expect(issuesOf({ kind: 'x', start: -1, end: null, raw: 'y' })).toEqual(at0(['end', 'must be an integer']))
  })

  it('lets nodes touch, and refuses overlaps with the last well-ordered node', () => {
    const source = 'abcdef'
    const node = (start: number, end: number) => ({ kind: 'x', start, end, raw: source.slice(start, end) })

    expect(composerInputIssues({ source, nodes: [node(0, 2), node(2, 4)] })).toEqual([])
    expect(composerInputIssues({ source, nodes: [node(0, 3), node(2, 4)] })).toEqual([
      { path: '/nodes/1/start', message: 'must not overlap the previous node' },
    ])
    const backwards = { kind: 'x', start: 5, end: 4, raw: '' }
    expect(composerInputIssues({ source, nodes: [node(0, 2), backwards, node(2, 4)] })).toEqual([
      { path: '/nodes/1/end', message: 'must be >= start' },
    ])
  })

  it('counts UTF-16 code units', () => {
    expect(issuesOf({ kind: 'x', start: 0, end: 2, raw: '😀' }, '😀')).toEqual([])
    expect(issuesOf({ kind: 'x', start: 0, end: 1, raw: '😀' }, '😀')).toEqual(at0(['raw', 'must equal source.slice(start, end)']))
  })

  it.each([
    [{ kind: 'slash_command', name: 'a-b2' }, []],
    [{ kind: 'slash_command', name: 'a--b' }, at0(['name', 'must be a lowercase kebab-case command name'])],
    [{ kind: 'slash_command' }, at0(['name', 'must be a lowercase kebab-case command name'])],
    [{ kind: 'file', path: 'src/a.ts' }, []],
    [{ kind: 'file', path: '' }, at0(['path', 'must be a string'])],
    [{ kind: 'symbol', name: '' }, at0(['name', 'must be a non-empty string'])],
    [{ kind: 'branch' }, at0(['name', 'must be a non-empty string'])],
    [{ kind: 'branch', name: 'main' }, []],
    [{ kind: 'emoji', unknown: true }, []],
  ])('%j', (members, issues) => {
    expect(issuesOf({ start: 0, end: 1, raw: '/', ...members })).toEqual(issues)
  })

  it('of a hostile payload about a hundred issues are told, however many there are', () => {
    const nodes = Array.from({ length: 100_000 }, () => 1)

    expect(composerInputIssues({ source: '', nodes })).toHaveLength(100)
  })
})
