/** The agent UI's built files below `/__agent_ui/` (spec/13 §6): static, without a principal, never outside their folder. */
import { readFile } from 'node:fs/promises'
import { extname, join, normalize, sep } from 'node:path'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { errors } from '../domain/errors.js'

const contentTypes: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.map': 'application/json; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.jpg': 'image/jpeg',
  '.ico': 'image/x-icon',
}

const undocumented = 'web pages'
const prefix = '/__agent_ui/'

export const isAgentUi = (path: string): boolean => path.startsWith(prefix)

export function agentUiRoutes(app: FastifyInstance, folder: string | undefined): void {
  app.get('/', { config: { undocumented } }, async (_request, reply) => reply.redirect(prefix, 302))
  app.get(`${prefix}*`, { config: { undocumented } }, async (request, reply) => await serve(request, reply, folder))
  app.route({
    method: ['POST', 'PUT', 'PATCH', 'DELETE'],
    url: `${prefix}*`,
    config: { undocumented },
    onRequest: nothingHere, // before the body is read
    handler: nothingHere,
  })
}

async function nothingHere(_request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  return await reply.code(404).send()
}

async function serve(request: FastifyRequest, reply: FastifyReply, folder: string | undefined): Promise<FastifyReply> {
  const index = folder === undefined ? null : await content(join(folder, 'index.html'))
  if (folder === undefined || index === null) throw errors.AGENT_UI_NOT_FOUND()
  const path = relativePath(request.originalUrl)
  if (path === null) return reply.code(404).send()
  const isPage = path.endsWith(sep) || extname(path) === ''
  const file = isPage ? null : await content(join(folder, path))
  if (file === null && !isPage) return reply.code(404).send()
  return reply
    .type(contentTypes[isPage ? '.html' : extname(path)] ?? 'application/octet-stream')
    .header('cache-control', path.startsWith(`assets${sep}`) ? 'public, max-age=31536000, immutable' : 'no-cache')
    .send(file ?? index)
}

/** The path below the folder, or null where it would leave it. */
function relativePath(url: string): string | null {
  const sent = url.slice(prefix.length).split(/[?#]/, 1)[0] ?? ''
  const decoded = decode(sent)
  if (decoded === null || decoded.includes('\0')) return null
  const path = normalize(decoded)
  return path.startsWith('..') || path.startsWith(sep) ? null : path
}

function decode(sent: string): string | null {
  try {
    return decodeURIComponent(sent)
  } catch {
    return null
  }
}

async function content(file: string): Promise<Buffer | null> {
  try {
    return await readFile(file)
  } catch {
    return null
  }
}
