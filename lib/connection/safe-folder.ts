// Writing into folders that somebody else may write to, too, for shells of hosts. Whoever may write to a folder can put a link wherever a
// name is expected, at any time: so a folder is entered once, in a way that no link of others leads to, what is made there is made in a folder
// within it that nobody else may enter, and it takes its place by a rename, which follows nothing.

/** The folder of a path, and the name in it. */
export function splitPath(path: string): { folder: string; name: string } {
  const cut = path.lastIndexOf('/')
  return { folder: cut === -1 ? '.' : tidy(path.slice(0, cut + 1)), name: path.slice(cut + 1) }
}

/** A folder's path as the kernel would tell it, as far as its letters say: `//` and `/./` are `/`. */
const tidy = (folder: string) => folder.replace(/\/(\.?\/)+/g, '/').replace(/(?<=.)\/$/, '')

/**
 * Functions for a script:
 *
 * - `_in FOLDER` enters it. A link on the way is followed only where root, or who runs this, laid it, and nobody else could have put it there.
 * - `_make FOLDER` the same; what of it is missing is made.
 * - `_private` makes an empty folder in the one that was entered, for us alone, and enters that. `..` is then the one that was entered.
 * - `_leave` goes back, and removes it with the files in it.
 * - `_label OTHER FILE` gives a file the label of the one whose place it takes, or of the folder around, where the machine has labels (SELinux):
 *   a rename keeps a file's own, and a component could not read it.
 *
 * Each returns with a status and a reason on stderr where it can't. What is in a private folder, and in folders that only root may write to,
 * may be named without a thought; of everything else by `../NAME`, and with commands that follow no link: `mv -fT`, `rm -f`, `ln -T`.
 */
export const safeFolders = `_h=$PWD; _s=; _t=
_in() { _mk=; _go "$1"; }
_make() { _mk=yes; _go "$1"; }
_go() {
case $1 in /*) ;; *) cd -P -- "$_h" && _walk "$1"; return ;; esac
{ cd -P -- "$1"; } 2>/dev/null || { [ "$_mk" ] && { _walk "$1"; return; }; echo "there is no folder $1, or it can't be entered" >&2; return 1; }
# Where the kernel calls it the same, no link led there.
[ "$(env pwd -P)" = "$1" ] || _walk "$1"
}
_walk() {
_n=0; _rest=$1
while [ "$_rest" ]; do
case $_rest in /*) cd / || return ;; esac
_c=\${_rest%%/*}; case $_rest in */*) _rest=\${_rest#*/} ;; *) _rest= ;; esac
case $_c in ''|.) continue ;; ..) cd -P .. || return; continue ;; esac
[ -z "$_mk" ] || [ -e "./$_c" ] || [ -L "./$_c" ] || mkdir -- "./$_c" || return
set -- $(stat -c '%u %f %d:%i' . "./$_c" 2>/dev/null)
[ $# = 6 ] || { echo "there is no $_c in $(env pwd -P)" >&2; return 1; }
_ok=
if [ "$1" = 0 ] || [ -O . ]; then
if [ $((0x$2 & 0x12)) = 0 ]; then _ok=yes
elif [ $((0x$2 & 0x200)) != 0 ] && { [ "$4" = 0 ] || [ "$4" = "$(id -u)" ]; }; then _ok=yes; fi
fi
if [ $((0x$5 & 0xf000)) = $((0xa000)) ]; then
[ "$_ok" ] || { echo "$(env pwd -P)/$_c is a link that others may lay, and is not followed" >&2; return 1; }
_n=$((_n + 1)); [ $_n -le 40 ] || { echo "$_c: too many links" >&2; return 1; }
_rest=$(readlink "./$_c")/$_rest
else
cd -P "./$_c" || return
[ "$_ok" ] || [ "$(stat -c %d:%i .. "../$_c" . | tr '\\n' ' ')" = "$3 $6 $6 " ] || { echo "$_c was changed while it was entered" >&2; return 1; }
fi
done
}
_private() {
_d=$(env pwd -P); _t=$(mktemp -d ./.rekey.XXXXXX) && cd -P "$_t" || return
case $(env pwd -P)/$(stat -c %a .) in "\${_d%/}/\${_t#./}"/*700) ;; *) _t= ;; esac
set -- ./* ./.[!.]*
[ "$_t" ] && [ -O . ] && [ "$*" = './* ./.[!.]*' ] || { echo "$_d: somebody else changes what is made there" >&2; return 1; }
# Not before: until here we may be elsewhere, and what is there is not ours to remove.
_s=$_t
}
_leave() {
if [ "$_s" ]; then rm -rf -- ./*; cd .. && rmdir -- "$_s"
# Made, and perhaps not entered: it is empty.
elif [ "$_t" ]; then rmdir -- "$_t" 2>/dev/null || rmdir -- "../$_t" 2>/dev/null || :; fi
_s=; _t=
}
_label() {
! selinuxenabled 2>/dev/null && return
_like=$1; { [ -f "$_like" ] && [ ! -L "$_like" ]; } || _like=..
chcon -Rh --reference="$_like" -- "$2" 2>/dev/null && return
# Some file systems have one label for all, and let nobody set another.
[ "$(stat -c %C -- "$_like")" = "$(stat -c %C -- "$2")" ] || chcon -Rh --reference="$_like" -- "$2"
}`
