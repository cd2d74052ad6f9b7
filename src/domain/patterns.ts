/** `pattern` of registered schemas. */

/** Up to here a plain pattern takes some 40 µs at most: it may try each place of the text from each place. */
export const maxPlainText = 200

/**
 * Whether a match leaves next to no choice: one repetition or one alternative, no repeated group. Bounded repetitions are choices too, and so is `?`: with
 * twenty-five of them a match has millions of ways. What is not plain may take for ever; judging that more closely would be wrong some day.
 */
export function isPlain(source: string): boolean {
  const choices = source.match(/[*+?|]|\{\d+,\d*\}/g) ?? []
  return choices.length <= 1 && !/\)\s*[*+?{]/.test(source) && !/\\[1-9k]/.test(source)
}

/** Unicode mode as JSON Schema wants it; patterns that are only valid without it are taken as they are. Throws a SyntaxError where `source` is no pattern. */
export function compiledPattern(source: string): RegExp {
  try {
    return new RegExp(source, 'u')
  } catch {
    return new RegExp(source)
  }
}
