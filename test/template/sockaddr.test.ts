// go-sockaddr's language on IPv6, which the machine that the cases were made on does not have.
import test from 'ava'
import { evaluateSockaddr, type MachineInterfaces } from '../../lib/template/sockaddr.ts'

const machine: MachineInterfaces = {
  interfaces: [
    { name: 'lo', flags: ['LOOPBACK', 'UP', 'LOWER_UP'], addresses: ['127.0.0.1/8', '::1/128'] },
    {
      name: 'eth0',
      flags: ['BROADCAST', 'MULTICAST', 'UP'],
      addresses: ['10.0.0.5/24', '2600:1f18:0:1::7/64', 'fd00:5::7/64', 'fe80::5054:ff:fe12:3456/64'],
    },
    { name: 'tun0', flags: ['POINTOPOINT', 'NO-CARRIER', 'UP'], addresses: ['fd00:9::1/127'] },
  ],
  defaultInterface: 'eth0',
}

const answers: [expression: string, answer: string][] = [
  ['GetPrivateIP', '10.0.0.5'],
  ['GetPublicIP', '2600:1f18:0:1::7'],
  ['GetPublicIPs', '2600:1f18:0:1::7'],
  ['GetPrivateIPs', '10.0.0.5 fd00:5::7 fd00:9::1'],
  ['GetInterfaceIPs "tun0"', 'fd00:9::1'],
  [
    'GetAllInterfaces | include "type" "ipv6" | exclude "rfc" "4291" | join "address" " "',
    '2600:1f18:0:1::7 fd00:5::7 fd00:9::1',
  ],
  ['GetAllInterfaces | include "flags" "link-local unicast" | attr "address"', 'fe80::5054:ff:fe12:3456'],
  ['GetAllInterfaces | include "flags" "point-to-point" | attr "flags"', 'up|pointtopoint'],
  [
    'GetAllInterfaces | include "network" "fd00::/8" | sort "-address" | join "string" " "',
    'fd00:9::1/127 fd00:5::7/64',
  ],
  ...Object.entries({
    binary: `1111110100000000${'0000000000000101'}${'0'.repeat(93)}111`,
    hex: 'fd000005000000000000000000000007',
    first_usable: 'fd00:5::',
    last_usable: 'fd00:5::ffff:ffff:ffff:ffff',
    mask_bits: '64',
    netmask: 'ffff:ffff:ffff:ffff::',
    network: 'fd00:5::',
    octets: '253 0 0 5 0 0 0 0 0 0 0 0 0 0 0 7',
    size: '18446744073709551616',
    type: 'IPv6',
    uint128: String(0xfd000005000000000000000000000007n),
  }).map(([name, answer]): [string, string] => [
    `GetAllInterfaces | include "address" "fd00:5" | attr "${name}"`,
    answer,
  ]),
  ...Object.entries({
    '"address" "+5"': 'fd00:5::c/64',
    '"address" "-8"': 'fd00:4:ffff:ffff:ffff:ffff:ffff:ffff/64',
    '"network" "+2"': 'fd00:5::2/64',
    '"network" "-1"': 'fd00:5::ffff:ffff:ffff:ffff/64',
    '"mask" "16"': 'fd00::/16',
  }).map(([operation, answer]): [string, string] => [
    `GetAllInterfaces | include "address" "fd00:5" | math ${operation} | attr "string"`,
    answer,
  ]),
]
for (const [expression, answer] of answers) {
  test.serial(expression, t => t.is(evaluateSockaddr(expression, machine), answer))
}

test.serial('what an address does not have is said', t => {
  t.throws(() => evaluateSockaddr('GetAllInterfaces | include "type" "ipv6" | attr "broadcast"', machine), {
    message: /attr: an IPv6 address does not have this attribute/,
  })
  t.throws(() => evaluateSockaddr('GetDefaultInterfaces', { interfaces: [] }), { message: /there is no default route/ })
})
