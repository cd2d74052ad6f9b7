/** Tokens in requests (spec/06 §2): `electric-claim-token` where it is not blank, else `authorization`, whose `Bearer` may be left out. */
import type { FastifyRequest } from 'fastify'

const one = (header: string | readonly string[] | undefined): string =>
  (typeof header === 'object' ? (header[0] ?? '') : (header ?? '')).trim()

export function presentedToken({ headers }: Pick<FastifyRequest, 'headers'>): string | null {
  const token =
    one(headers['electric-claim-token']) ||
    one(headers.authorization)
      .replace(/^Bearer\s+/i, '')
      .trim()
  return token === '' ? null : token
}
