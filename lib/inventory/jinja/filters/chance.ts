// Filters whose result would differ from run to run, but for a seed or a time that is given: random, shuffle, strftime.
import { type PythonRandom, pythonRandom } from '../../python/python-random.ts'
import { iterate, TemplateError, text, toNumber, truthy } from '../../python/python-values.ts'
import { integer } from '../../values.ts'
import { absent, bind, numeric, string, whole } from '../jinja-call.ts'
import { type Filter, type Filters, refuse } from './filter.ts'

const changing = 'gives another result at every run, and so is refused; with a seed it does not'

function randomOf(seed: unknown): PythonRandom {
  if (absent(seed)) throw new TemplateError(changing)
  if (typeof seed === 'string') return pythonRandom(seed)
  if (typeof seed === 'bigint' || typeof seed === 'boolean' || Number.isInteger(seed))
    return pythonRandom(BigInt(seed as bigint))
  throw new TemplateError('a seed is a text or a whole number here')
}

const random: Filter = (value, args) => {
  const { start, step, seed } = bind(args, 'start', 'step', 'seed')
  const source = randomOf(seed)
  const choice = (count: number): number => Number(source.below(BigInt(count)))
  if (toNumber(value) === undefined) {
    if (truthy(start ?? false) || truthy(step ?? false)) throw new TemplateError('"start" and "step" are for numbers')
    const members = iterate(value)
    if (members.length === 0) throw new TemplateError('the list is empty')
    return members[choice(members.length)]
  }
  const [from, to, by] = [
    BigInt(whole(start || 0)),
    typeof value === 'bigint' ? value : BigInt(whole(value)),
    BigInt(whole(step || 1)),
  ]
  const count = (to - from + by + (by > 0n ? -1n : 1n)) / by
  if (count <= 0n) throw new TemplateError(`there is no number between ${from} and ${to}`)
  return integer(from + by * source.below(count))
}

const shuffle: Filter = (value, args) => {
  const { seed } = bind(args, 'seed')
  const source = randomOf(truthy(seed ?? false) ? seed : undefined)
  const members = [...iterate(value)]
  for (let index = members.length - 1; index > 0; index--) {
    const other = Number(source.below(BigInt(index + 1)))
    ;[members[index], members[other]] = [members[other], members[index]]
  }
  return members
}

const days = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday']
const months = 'January February March April May June July August September October November December'.split(' ')
const two = (number: number): string => String(number).padStart(2, '0')

const strftime: Filter = (value, args) => {
  const { second, utc = false } = bind(args, 'second', 'utc')
  if (absent(second)) throw new TemplateError('gives the time of day where no time is given, and so is refused')
  const seconds = typeof second === 'string' ? Number(second) : numeric(second)
  const local = new Date(Math.floor(seconds) * 1000)
  if (second === '' || Number.isNaN(local.getTime())) throw new TemplateError(`"${text(second)}" is no time`)
  // A date whose parts in UTC are those that are wanted.
  const away = truthy(utc) ? 0 : -local.getTimezoneOffset()
  const date = new Date(local.getTime() + away * 60_000)
  const [day, hour] = [date.getUTCDay(), date.getUTCHours()]
  const ofYear =
    Math.floor(
      (Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate()) - Date.UTC(date.getUTCFullYear(), 0, 1)) /
        86_400_000,
    ) + 1
  const zone = `${away < 0 ? '-' : '+'}${two(Math.floor(Math.abs(away) / 60))}${two(Math.abs(away) % 60)}`
  const parts: Readonly<Record<string, () => string>> = {
    '%': () => '%',
    Y: () => String(date.getUTCFullYear()),
    y: () => two(date.getUTCFullYear() % 100),
    m: () => two(date.getUTCMonth() + 1),
    d: () => two(date.getUTCDate()),
    e: () => String(date.getUTCDate()).padStart(2),
    H: () => two(hour),
    I: () => two(hour % 12 || 12),
    p: () => (hour < 12 ? 'AM' : 'PM'),
    M: () => two(date.getUTCMinutes()),
    S: () => two(date.getUTCSeconds()),
    j: () => String(ofYear).padStart(3, '0'),
    a: () => days[day]!.slice(0, 3),
    A: () => days[day]!,
    b: () => months[date.getUTCMonth()]!.slice(0, 3),
    B: () => months[date.getUTCMonth()]!,
    u: () => String(day || 7),
    w: () => String(day),
    F: () => date.toISOString().slice(0, 10),
    T: () => date.toISOString().slice(11, 19),
    D: () => `${two(date.getUTCMonth() + 1)}/${two(date.getUTCDate())}/${two(date.getUTCFullYear() % 100)}`,
    R: () => date.toISOString().slice(11, 16),
    s: () => String(Math.floor(seconds)),
    z: () => zone,
    n: () => '\n',
    t: () => '\t',
  }
  return string(value).replace(/%(.?)/gs, (directive, letter: string) => {
    if (!Object.hasOwn(parts, letter)) throw new TemplateError(`the directive "${directive}" is not one that rekey has`)
    return parts[letter]!()
  })
}

export const chance: Filters = {
  random,
  shuffle,
  strftime,
  to_datetime: refuse('is not one that rekey has: a date of YAML is one already'),
}
