/** Content types as the stream protocol compares them: the media type only, echoed as they were sent (spec/14 §1.1). */

export const defaultContentType = 'application/octet-stream'

const wellFormed = /^\s*[\w!#$&^.+-]+\/[\w!#$&^.+*-]+/

/** The type of a new stream: what does not look like a type counts as absent (spec/14 §2.1 row 1). */
export const contentTypeOf = (sent: string | undefined): string | undefined =>
  sent !== undefined && wellFormed.test(sent) ? sent : undefined

export function mediaType(contentType: string): string {
  const semicolon = contentType.indexOf(';')
  return (semicolon < 0 ? contentType : contentType.slice(0, semicolon)).trim().toLowerCase()
}

export const isJsonType = (contentType: string): boolean =>
  contentType === 'application/json' || mediaType(contentType) === 'application/json'

export const isTextType = (contentType: string): boolean => mediaType(contentType).startsWith('text/')

export const sameMediaType = (one: string, other: string): boolean => one === other || mediaType(one) === mediaType(other)
