// Filters that run others over members: map, select, reject and their kin.
import { iterate, TemplateError, truthy } from '../../python/python-values.ts'
import { bind, string } from '../jinja-call.ts'
import { listOf, Missing, orMissing, readMembers } from '../jinja-frame.ts'
import { attribute, type Filter, type Filters } from './filter.ts'

/** `map`: an attribute of each member, or a filter over each. */
const mapFilter: Filter = (value, args, context) => {
  const members = readMembers(iterate(value))
  const [name, ...positional] = args.positional
  if (name === undefined) {
    const { attribute: path, default: otherwise } = bind(args, 'attribute', 'default')
    if (path === undefined) throw new TemplateError('"map" needs a filter or an attribute')
    return listOf(
      members.map(member =>
        member instanceof Missing
          ? (otherwise ?? member)
          : orMissing(() => attribute(member, path, context, otherwise)),
      ),
    )
  }
  return listOf(
    members.map(member => orMissing(() => context.filter(string(name), member, { positional, named: args.named }))),
  )
}

/** `select` and its kin: keeps the members for which a test holds, or doesn't. */
function choose(keep: boolean, byAttribute: boolean): Filter {
  return (value, { positional, named }, context) => {
    const [path, ...rest] = byAttribute ? positional : [undefined, ...positional]
    const [name, ...parameters] = rest
    if (byAttribute && path === undefined) throw new TemplateError('the name of an attribute is missing')
    const kept = readMembers(iterate(value)).filter(member => {
      let subject = member
      if (byAttribute && !(member instanceof Missing)) subject = orMissing(() => attribute(member, path, context))
      if (name !== undefined) return context.test(string(name), subject, { positional: parameters, named }) === keep
      if (subject instanceof Missing) throw subject.error
      return truthy(subject) === keep
    })
    return listOf(kept)
  }
}

export const choosing: Filters = {
  map: mapFilter,
  select: choose(true, false),
  selectattr: choose(true, true),
  reject: choose(false, false),
  rejectattr: choose(false, true),
}
