"""A region without time, sockets, threads and chance.

Everything that ``Seams`` names, made so that a run can be repeated.

``loop`` jumps from timer to timer; ``network`` carries bytes between protocols in memory, and can be cut in
the middle of a body; ``link`` carries the members' link over it; ``seams`` puts all of it into one value for
one service. What reaches for the world by another way fails at once: the loop has no threads and no sockets.
"""
