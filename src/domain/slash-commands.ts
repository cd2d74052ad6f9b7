/** Slash commands of an entity type (spec/02 §2.3). */
import type { SlashCommand } from './entity.js'
import type { Violation } from './errors.js'

const commandName = /^[a-z][a-z0-9]*(?:-[a-z0-9]+)*$/
const argumentName = /^[a-z][a-zA-Z0-9_]*$/

export function slashCommandViolations(commands: readonly SlashCommand[]): Violation[] {
  const names = commands.map((command) => command.name)
  return commands.flatMap((command, index) => {
    const path = `/slash_commands/${index}`
    const argumentNames = (command.arguments ?? []).map((argument) => argument.name)
    return [
      ...nameViolations(names, index, commandName, `${path}/name`, 'must be a lowercase kebab-case command name'),
      ...argumentNames.flatMap((_name, position) =>
        nameViolations(argumentNames, position, argumentName, `${path}/arguments/${position}/name`, 'must be a valid argument name'),
      ),
    ]
  })
}

function nameViolations(names: readonly string[], index: number, valid: RegExp, path: string, message: string): Violation[] {
  const name = names[index] ?? ''
  if (!valid.test(name)) return [{ path, message }]
  return names.indexOf(name) < index ? [{ path, message: 'must be unique' }] : []
}
