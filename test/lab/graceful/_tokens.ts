// What API servers of a lab say to tokens of before, to one that is forged with the key of before, and to one that they sign themselves.
import type * as lab from '../../../lib/lab/index.ts'
import { on } from '../_outside.ts'

const folder = '/root/old-token-key'

/** Keeps on m1 what somebody had in hand before: the key that signs tokens, a token of an account, the one of a Secret. */
export async function keepTokenKey(shape: lab.Shape, kubeconfig: string, key: string): Promise<void> {
  await on(
    shape,
    'm1',
    `set -e; export KUBECONFIG=${kubeconfig}; rm -rf ${folder}; mkdir -m 700 ${folder}; cd ${folder}
cp ${key} sa.key; kubectl create token default --duration=24h >bound
kubectl -n canary get secret caller-token -o jsonpath='{.data.token}' | base64 -d >legacy`,
  )
}

/** What each API server says to these now. */
export async function tokenStatuses(shape: lab.Shape, kubeconfig: string): Promise<Record<string, string[]>> {
  const addresses = shape.machines.filter(({ role }) => role === 'master').map(({ address }) => address)
  const said = await on(
    shape,
    'm1',
    `export KUBECONFIG=${kubeconfig}; cd ${folder}
url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
kubectl create token default >new
kid=$(openssl pkey -in sa.key -pubout -outform DER | openssl dgst -sha256 -binary | url)
signed=$(printf '{"alg":"RS256","kid":"%s"}' "$kid" | url).$(cut -d. -f2 new)
printf '%s.%s' "$signed" "$(printf %s "$signed" | openssl dgst -sha256 -sign sa.key -binary | url)" >forged
for what in bound legacy forged new; do for address in ${addresses.join(' ')}; do
curl -sk -o /dev/null -w "$what %{http_code}\\n" -H "Authorization: Bearer $(cat $what)" "https://$address:6443/api"
done; done`,
  )
  const lines = said
    .trim()
    .split('\n')
    .map(line => line.split(' ') as [string, string])
  return Object.fromEntries(
    [...Map.groupBy(lines, ([what]) => what)].map(([what, all]) => [what, [...new Set(all.map(([, code]) => code))]]),
  )
}
