#!/bin/sh
# Help, parser and manual page agree: every program has a page, and every option that the help
# names stands in it.
name=manuals
. tests/library.sh

# options PROGRAM...: the long options in its help, one a line.
options() {
    "$@" --help | sed -n 's/^ *\(-.,\)\{0,1\} *--\([a-z0-9-]*\).*/\2/p'
}

# documented PAGE OPTION
documented() {
    grep -q -e "Fl -$2\( \|$\)" "$1"
}

for source in stages/*.c; do
    program=$(basename "$source" .c)
    page=stages/$program.1
    check "$program has a manual page" test -s "$page"
    case $program in
    rec) list=$(for verb in stat head cat dump view check times conform; do options rec $verb; done) ;;
    *) list=$(options "$program") ;;
    esac
    [ -n "$list" ] || fail "$program: no options in its help"
    for option in $list; do
        if documented "$page" "$option"; then pass; else
            fail "$page does not describe --$option"
        fi
    done
done
report
