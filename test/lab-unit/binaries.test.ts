// Where the lab's programs come from.
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { binaryKey, ensureBinaries, findBinary, kubernetesVersion, missingBinaries } from '../../lib/lab/binaries.ts'

const modules = fileURLToPath(new URL('../../lib/lab/binaries', import.meta.url))

test.serial('REKEY_BIN_DIR comes before the cache, and both before a build', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'rekey-binaries-'))
  const { XDG_CACHE_HOME, REKEY_BIN_DIR } = process.env
  const program = (path: string) => {
    mkdirSync(join(path, '..'), { recursive: true })
    writeFileSync(path, '#!/bin/sh\n')
    chmodSync(path, 0o755)
    return path
  }
  try {
    process.env.XDG_CACHE_HOME = join(folder, 'cache')
    process.env.REKEY_BIN_DIR = join(folder, 'given')
    t.is(findBinary('vault'), undefined)
    t.deepEqual(missingBinaries(['vault', 'canary']), ['vault', 'canary'])
    const cached = program(join(folder, 'cache/rekey/bin', `vault-${binaryKey('vault')}`, 'vault'))
    t.is(findBinary('vault'), cached)
    const given = program(join(folder, 'given', 'vault'))
    t.is(findBinary('vault'), given)
    t.deepEqual(missingBinaries(['vault', 'canary']), ['canary'])
    t.deepEqual(await ensureBinaries(['vault'], { report: () => t.fail('nothing is to be built') }), { vault: given })
    // A file that nobody may run is no program.
    chmodSync(given, 0o644)
    t.is(findBinary('vault'), cached)
  } finally {
    for (const [name, value] of Object.entries({ XDG_CACHE_HOME, REKEY_BIN_DIR })) {
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
    }
    rmSync(folder, { recursive: true, force: true })
  }
})

test.serial('every module that needs others pins them by go.sum', t => {
  for (const module of readdirSync(modules)) {
    const content = readFileSync(join(modules, module, 'go.mod'), 'utf8')
    if (/^\t?\S+ v\d/m.test(content)) t.true(existsSync(join(modules, module, 'go.sum')), module)
    t.notRegex(content, /=> \.{0,2}\//, `${module} depends on nothing outside its folder`)
  }
})

test.serial('kubeadm is told the version that go.mod pins', t => {
  t.regex(kubernetesVersion, /^v1\.34\.\d+$/)
})
