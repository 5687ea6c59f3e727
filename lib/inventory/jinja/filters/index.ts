// The filters that templates in inventories may use, those of Jinja and those of ansible-core; what can't be is refused by name.
import { chance } from './chance.ts'
import { choosing } from './choosing.ts'
import { notations } from './encodings.ts'
import type { Filter } from './filter.ts'
import { lists } from './lists.ts'
import { maps } from './maps.ts'
import { numbers } from './numbers.ts'
import { paths } from './paths.ts'
import { regexes } from './regex.ts'
import { texts } from './texts.ts'

/** By name, but for those that take what is missing: default, mandatory, ternary, type_debug. */
export const filters: Readonly<Record<string, Filter | undefined>> = {
  ...texts,
  ...lists,
  ...maps,
  ...numbers,
  ...choosing,
  ...regexes,
  ...notations,
  ...paths,
  ...chance,
}
