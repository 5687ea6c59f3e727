// Which cgroup hierarchies the kernel has mounted.
import test from 'ava'
import { parseHierarchies } from '../../lib/lab/machines/cgroups.ts'

test.serial('a machine with cgroup v2 has one hierarchy', t => {
  const mounts = '30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n'
  t.deepEqual(parseHierarchies(mounts), [{ version: 2, mountPoint: '/sys/fs/cgroup' }])
})

test.serial('a machine with cgroup v1 has one for each controller, and one of v2 beside them', t => {
  const mounts = [
    '25 20 0:21 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755',
    '26 25 0:22 / /sys/fs/cgroup/cpuset rw,nosuid shared:9 - cgroup cgroup rw,cpuset',
    '27 25 0:23 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory',
    '28 25 0:24 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd',
    '29 25 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw',
    '31 20 0:27 / /proc rw - proc proc rw',
  ].join('\n')
  t.deepEqual(
    parseHierarchies(mounts).map(({ version, mountPoint }) => `v${version} ${mountPoint}`),
    ['v1 /sys/fs/cgroup/cpuset', 'v1 /sys/fs/cgroup/memory', 'v1 /sys/fs/cgroup/systemd', 'v2 /sys/fs/cgroup/unified'],
  )
})
