export interface MissingPackage {
  readonly name: string
  readonly version: string
}
export function missingFrom(lockfile: unknown): readonly MissingPackage[]
