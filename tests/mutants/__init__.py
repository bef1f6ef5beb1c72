"""Lethal edits of one line, each of which the core's tests must notice: ``python -m tests.mutants``.

    table     what an edit is, and the list of all of them (edits/, a file for each layer)
    trees     copies of the repository in which one edit at a time is made
    run       tries an edit: the tests of its layer first, since most die there, then all of `make unit`

The edits are chosen by hand. Libraries make them by rule: mutmut 3 rewrites every function into a trampoline
with all its variants inside, cosmic-ray every operator in turn, thousands of edits of which most change
nothing that anybody promised; a whole run takes hours, and what survives has to be read. Neither of them
touches Lua, where a queue's moves are. Here the question is another one: does a guarantee that is broken in
one line, a settlement that is never sent or a lease that is never renewed, get past `make unit`? Such a list
is short, each line of it is a sentence, and a run of minutes ends in a yes or a no.

An edit must stand in the tree exactly once: one whose line was changed since is an error, never a pass.
"""
