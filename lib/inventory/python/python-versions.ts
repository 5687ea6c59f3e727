// Versions by the rules of Python's distutils, and semantic ones.
import { compare, TemplateError } from './python-values.ts'

const operators: Readonly<Record<string, (order: number) => boolean>> = {
  '==': order => order === 0,
  '=': order => order === 0,
  eq: order => order === 0,
  '!=': order => order !== 0,
  '<>': order => order !== 0,
  ne: order => order !== 0,
  '<': order => order < 0,
  lt: order => order < 0,
  '<=': order => order <= 0,
  le: order => order <= 0,
  '>': order => order > 0,
  gt: order => order > 0,
  '>=': order => order >= 0,
  ge: order => order >= 0,
}

/** Whether a comparison of two versions holds. Throws `TemplateError` for those that have no order, and for unknown kinds of versions. */
export function versionHolds(one: string, operator: string, other: string, kind: string): boolean {
  const holds = Object.hasOwn(operators, operator) ? operators[operator] : undefined
  if (!holds) throw new TemplateError(`"is version" has no operator ${operator}`)
  switch (kind) {
    case 'loose':
      return holds(compare(loose(one), loose(other)))
    case 'strict':
      return holds(compare(strictParts(one), strictParts(other)))
    case 'semver':
    case 'semantic':
      return holds(semantic(one, other))
  }
  throw new TemplateError(`the versions of "${kind}" are not among those that rekey has`)
}

/** Numbers, and what is between them, without the dots. */
function loose(version: string): unknown[] {
  return version
    .split(/(\d+|[a-z]+|\.)/)
    .filter(part => part !== '' && part !== '.')
    .map(part => (/^\d+$/.test(part) ? Number(part) : part))
}

/** `1.2`, `1.2.3`, `1.2a1`: the last part is a letter and a number, before which the version itself comes last. */
function strictParts(version: string): unknown[] {
  const [, major, minor, , patch, pre, number] = /^(\d+)\.(\d+)(\.(\d+))?(?:([ab])(\d+))?$/.exec(version) ?? []
  if (major === undefined) throw new TemplateError(`"${version}" is no strict version`)
  return [Number(major), Number(minor), Number(patch ?? 0), pre ?? 'c', Number(number ?? 0)]
}

const semanticPattern =
  /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([\dA-Za-z-]+(?:\.[\dA-Za-z-]+)*))?(?:\+[\dA-Za-z-]+(?:\.[\dA-Za-z-]+)*)?$/

function semantic(one: string, other: string): number {
  const [left, right] = [one, other].map(version => {
    const [, major, minor, patch, pre] = semanticPattern.exec(version) ?? []
    if (major === undefined) throw new TemplateError(`"${version}" is no semantic version`)
    return { core: [major, minor, patch].map(Number), pre: pre?.split('.') }
  }) as [{ core: number[]; pre?: string[] }, { core: number[]; pre?: string[] }]
  const order = compare(left.core, right.core)
  if (order !== 0) return order
  if (!left.pre || !right.pre) return (left.pre ? -1 : 0) + (right.pre ? 1 : 0)
  for (const [index, part] of left.pre.entries()) {
    const opposite = right.pre[index]
    if (opposite === undefined) return 1
    if (part === opposite) continue
    const numbers = [part, opposite].map(field => /^\d+$/.test(field))
    // Numbers come before words.
    if (numbers[0] !== numbers[1]) return numbers[0] ? -1 : 1
    return numbers[0] ? Number(part) - Number(opposite) : compare(part, opposite)
  }
  return left.pre.length - right.pre.length
}
