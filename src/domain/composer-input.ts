/** Validation of `composer_input` payloads (spec/03 §6): the issues in the order of the chapter, bounded. Offsets count UTF-16 code units. */

import type { Violation } from './errors.js'
import { isObject } from './json-shape.js'

/** Nobody reads more, and all issues of a hostile body would be many times its size. */
const maxIssues = 100

type Members = Readonly<Record<string, unknown>>

const isNonEmpty = (value: unknown): value is string => typeof value === 'string' && value !== ''
const commandName = /^[a-z][a-z0-9]*(-[a-z0-9]+)*$/

export function composerInputIssues(payload: unknown): Violation[] {
  if (!isObject(payload)) return [{ path: '/', message: 'must be an object' }]
  const { source, nodes } = payload
  const issues: Violation[] = []
  if (typeof source !== 'string') issues.push({ path: '/source', message: 'must be a string' })
  if (nodes !== undefined && !Array.isArray(nodes)) issues.push({ path: '/nodes', message: 'must be an array' })
  if (typeof source !== 'string' || !Array.isArray(nodes)) return issues
  let previousEnd: number | null = null
  for (const [index, node] of (nodes as readonly unknown[]).entries()) {
    if (issues.length >= maxIssues) break
    const path = `/nodes/${index}`
    if (!isObject(node)) {
      issues.push({ path, message: 'must be an object' })
      continue
    }
    issues.push(...nodeIssues(node, source, previousEnd).map(([member, message]) => ({ path: `${path}/${member}`, message })))
    if (isWellOrdered(node)) previousEnd = node.end
  }
  return issues
}

type Issue = readonly [member: string, message: string]

const isWellOrdered = (node: Members): node is Members & { readonly start: number; readonly end: number } =>
  Number.isInteger(node.start) && Number.isInteger(node.end) && Number(node.end) >= Number(node.start)

function nodeIssues(node: Members, source: string, previousEnd: number | null): Issue[] {
  const { kind, start, end, raw } = node
  const issues: Issue[] = []
  if (!isNonEmpty(kind)) issues.push(['kind', 'must be a non-empty string'])
  if (!Number.isInteger(start)) issues.push(['start', 'must be an integer'])
  if (!Number.isInteger(end)) issues.push(['end', 'must be an integer'])
  if (typeof raw !== 'string') issues.push(['raw', 'must be a string'])
  if (Number.isInteger(start) && Number.isInteger(end)) issues.push(...placeIssues(Number(start), Number(end), raw, source, previousEnd))
  return [...issues, ...kindIssues(node)]
}

function placeIssues(start: number, end: number, raw: unknown, source: string, previousEnd: number | null): Issue[] {
  const issues: Issue[] = []
  if (start < 0) issues.push(['start', 'must be >= 0'])
  if (end < start) issues.push(['end', 'must be >= start'])
  if (end > source.length) issues.push(['end', 'must be within source'])
  if (previousEnd !== null && start < previousEnd) issues.push(['start', 'must not overlap the previous node'])
  if (raw !== source.slice(start, end)) issues.push(['raw', 'must equal source.slice(start, end)'])
  return issues
}

function kindIssues({ kind, name, path }: Members): Issue[] {
  if (kind === 'slash_command' && !(typeof name === 'string' && commandName.test(name)))
    return [['name', 'must be a lowercase kebab-case command name']]
  if (kind === 'file' && !isNonEmpty(path)) return [['path', 'must be a string']]
  if ((kind === 'symbol' || kind === 'branch') && !isNonEmpty(name)) return [['name', 'must be a non-empty string']]
  return []
}
