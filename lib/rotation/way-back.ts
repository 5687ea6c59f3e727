// What proves that the way back has arrived: the certificates and credentials of before are presented and accepted again.
import { HostFailedError } from '../errors.ts'
import { presentedCertificates } from '../kubernetes/components/endpoints.ts'
import { waitFor } from '../operations/wait.ts'
import { parseCertificate } from '../pki/certificates/certificate.ts'
import type { StepDefinition } from '../playbook/model.ts'
import { type OnCluster, type OnHost, seconds } from './context.ts'
import { readingOf } from './found.ts'
import { beforeOf } from './observe.ts'
import { endpointsOf } from './verify.ts'

/** A step of the way there as one of the way back, under an id of its own. */
export function undo<Context>(id: string, definition: StepDefinition<Context>): StepDefinition<Context> {
  return { ...definition, id: `undo-${id}` }
}

/** Waits until the ports of a host present the certificates that lay on it before. */
export const presentedAgain: StepDefinition<OnHost> = {
  readOnly: true,
  run: async ctx => {
    const { certificates } = readingOf(ctx)
    for (const { address, port, component, files } of endpointsOf(ctx)) {
      // Of what signs its own certificate there is no file.
      const before = files.map(path => certificates[path]).find(pem => pem !== undefined)
      if (before === undefined) continue
      const where = `${ctx.host.name}:${port}`
      await waitFor(
        `${component} on ${where} to present the certificate that it had`,
        { within: seconds(60), signal: ctx.signal, host: ctx.host.name },
        async () => {
          const presented = await presentedCertificates(() => ctx.forward(address, port), where)
          return parseCertificate(presented).fingerprint === parseCertificate(before).fingerprint
        },
      )
    }
  },
}

/** Fails where a master refuses the administrator of before. */
export const acceptedAgain: StepDefinition<OnCluster> = {
  readOnly: true,
  run: async ctx => {
    const { admin } = beforeOf(ctx)
    if (!admin) return
    const api = await ctx.cluster.apiOf(ctx.host)
    const old = { certificate: admin.certificate, key: admin.key.reveal() }
    if ((await api.statusOf('/api/v1/namespaces', old)) === 200) return
    throw new HostFailedError(`${ctx.host.name} refuses the old admin certificate`, {
      code: 'rollback.refused',
      host: ctx.host.name,
    })
  },
}
