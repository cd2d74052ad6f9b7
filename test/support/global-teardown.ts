export default async function globalTeardown(): Promise<void> {
  await (globalThis as { stopTestParts?: () => Promise<void> }).stopTestParts?.()
}
