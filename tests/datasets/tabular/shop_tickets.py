"""A shop's tickets, ten of four queues."""

TICKETS = [
    ("Lamp flickers", "It goes on and off", "repair"),
    ("Kettle leaks", "Water on the table", "repair"),
    ("Wrong size", "The shoes are too small, sadly", "return"),
    ("Not as shown", 'It says "blue", and is green', "return"),
    ("Größe falsch", "Bitte umtauschen", "return"),
    ("Where is it?", "Ordered two weeks ago", "delivery"),
    ("Late again", "Third time", "delivery"),
    ("Charged twice", "See my card", "billing"),
    ("No invoice", "I need one", "billing"),
    ("Price wrong", "More than shown", "billing"),
]


def as_csv(rows, header=("subject", "body", "queue")):
    """The rows as a spreadsheet would write them."""
    cells = [['"' + str(cell).replace('"', '""') + '"' for cell in row] for row in [header, *rows]]
    return "".join(",".join(row) + "\n" for row in cells)
