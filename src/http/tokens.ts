/** Tokens in requests (spec/06 §2): `electric-claim-token` where it is not blank, else `authorization`. */
import type { FastifyRequest } from 'fastify'

type Asked = Pick<FastifyRequest, 'headers'>

const one = (header: string | readonly string[] | undefined): string =>
  (typeof header === 'object' ? (header[0] ?? '') : (header ?? '')).trim()

/** `Bearer` may be left out. */
export function presentedToken({ headers }: Asked): string | null {
  const token =
    one(headers['electric-claim-token']) ||
    one(headers.authorization)
      .replace(/^Bearer\s+/i, '')
      .trim()
  return token === '' ? null : token
}

/** Where anything but a bearer in `authorization` is malformed (spec/06 §3.2), and no token. */
export function bearerToken({ headers }: Asked): string | null {
  const isMalformed = one(headers['electric-claim-token']) === '' && !/^Bearer\s+\S/i.test(one(headers.authorization))
  return isMalformed ? null : presentedToken({ headers })
}
