export interface LockHolder {
  readonly pid: number
  readonly birth: string
  readonly [note: string]: unknown
}
export function processBirth(pid: number): string | undefined
export function takeLock(path: string, note?: Readonly<Record<string, unknown>>): LockHolder | undefined
export function releaseLock(path: string): void
export function withLock<Result>(path: string, body: () => Promise<Result>, onWait?: (holder: LockHolder) => void): Promise<Result>
