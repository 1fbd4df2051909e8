"""Who is measured after whom.

What ran before leaves a machine in some state: its caches, how long its free pages are, how warm the processor is. If one
allocator always followed the same other one, that would be part of its figures. So the orders are a Williams design: Latin
squares in which each follows each other one equally often, and has each place equally often. The first of a row follows the last
of the row before: the step from row to row changes after each cycle, so that it is not always the same one, either.
"""


def orders(names):
    """The orders of one cycle, to be used one after the other: as many as there are names, or twice as many of an odd number."""
    count = len(names)
    first = [(place + 1) // 2 if place % 2 else (count - place // 2) % count for place in range(count)]
    found = [[names[(place + shift) % count] for place in first] for shift in range(count)]
    if count % 2:
        found += [order[::-1] for order in found]
    return found


def order(names, round_number, row_number):
    """In which order the allocators take their turns at one row of one round."""
    cycle = orders(names)
    return cycle[(round_number + row_number * (round_number // len(cycle) + 1)) % len(cycle)]
