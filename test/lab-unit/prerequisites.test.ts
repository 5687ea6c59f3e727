// What the lab says about a machine it can't run on.
import test from 'ava'
import { findMissing, type System } from '../../lib/lab/prerequisites.ts'

const fit: System = {
  platform: 'linux',
  root: true,
  distribution: ['debian'],
  has: () => true,
  toBuild: [],
  hasGo: true,
  hasBase: true,
  folders: ['/home/somebody/.cache/rekey'],
}

test.serial('nothing is missing on a machine that has everything', t => {
  t.deepEqual(findMissing(fit), { packages: [], others: [] })
})

test.serial('the packages that bring missing programs are named once each', t => {
  const has = (file: string) => !['systemd-nspawn', 'nsenter', 'unshare', 'ssh-keygen'].includes(file)
  t.deepEqual(findMissing({ ...fit, has }).packages, ['systemd-container', 'util-linux', 'openssh-client'])
})

test.serial('debootstrap is only asked for while the base of the machines has to be made', t => {
  const has = (file: string) => file !== 'debootstrap'
  t.deepEqual(findMissing({ ...fit, has }).packages, [])
  t.deepEqual(findMissing({ ...fit, has, hasBase: false }).packages, ['debootstrap'])
})

test.serial('somebody who is not root is told so', t => {
  t.regex(findMissing({ ...fit, root: false }).others.join(), /root.*sudo/)
})

test.serial('on another system than Linux, root is not the problem', t => {
  const { others } = findMissing({ ...fit, platform: 'darwin', root: false })
  t.is(others.length, 1)
  t.regex(others[0]!, /Linux/)
})

test.serial('Go is asked for only when something has to be built, and REKEY_BIN_DIR offered instead', t => {
  t.deepEqual(findMissing({ ...fit, hasGo: false }).others, [])
  const { others } = findMissing({ ...fit, hasGo: false, toBuild: ['kubernetes', 'vault'] })
  t.regex(others.join(), /Go .*kubernetes, vault.*REKEY_BIN_DIR/)
})

test.serial('everything that is missing is named at once', t => {
  const { packages, others } = findMissing({
    ...fit,
    root: false,
    has: () => false,
    hasGo: false,
    hasBase: false,
    toBuild: ['canary'],
    folders: ['/a:b'],
  })
  t.true(packages.length > 5)
  t.is(others.length, 3)
})

test.serial('a folder whose name an overlay mount would misread is refused', t => {
  for (const folder of ['/home/a:b', '/home/a,b', '/home/a b', '/home/a\\b'])
    t.true(
      findMissing({ ...fit, folders: [folder] })
        .others.join()
        .includes(folder),
    )
})
