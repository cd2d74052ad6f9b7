/** Slash commands of an entity type (spec/02 §2.3). */
import type { SlashCommand } from './entity.js'
import type { Violation } from './errors.js'

const commandName = /^[a-z][a-z0-9]*(?:-[a-z0-9]+)*$/
const argumentName = /^[a-z][a-zA-Z0-9_]*$/

export function slashCommandViolations(commands: readonly SlashCommand[]): Violation[] {
  const names = firstPositions(commands)
  return commands.flatMap((command, index) => {
    const path = `/slash_commands/${index}`
    const commandArguments = command.arguments ?? []
    const argumentNames = firstPositions(commandArguments)
    return [
      ...nameViolations(command.name, names.get(command.name) === index, {
        valid: commandName,
        path: `${path}/name`,
        message: 'must be a lowercase kebab-case command name',
      }),
      ...commandArguments.flatMap(({ name }, position) =>
        nameViolations(name, argumentNames.get(name) === position, {
          valid: argumentName,
          path: `${path}/arguments/${position}/name`,
          message: 'must be a valid argument name',
        }),
      ),
    ]
  })
}

/** Of each name, where it stands first. */
function firstPositions(named: readonly { readonly name: string }[]): ReadonlyMap<string, number> {
  const positions = new Map<string, number>()
  for (const [index, { name }] of named.entries()) if (!positions.has(name)) positions.set(name, index)
  return positions
}

interface NameRule {
  readonly valid: RegExp
  readonly path: string
  readonly message: string
}

function nameViolations(name: string, isFirst: boolean, { valid, path, message }: NameRule): Violation[] {
  if (!valid.test(name)) return [{ path, message }]
  return isFirst ? [] : [{ path, message: 'must be unique' }]
}
