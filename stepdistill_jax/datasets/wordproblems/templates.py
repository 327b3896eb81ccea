"""What word problems are written from: names, objects, structures of equations, and one template per situation.

In a template, `{N}` and `{M}` are two people (`{he}`, `{He}`, `{his}` go with `{N}`), `{things}` and `{others}` two kinds
of objects, `{a}` … `{d}` the given numbers, and, in the solution, `{x}`, `{y}`, `{z}` the calculations of the first, second
and third step ('12 + 5 = 17'). Questions name the person, so that a sentence about somebody else may stand before them.
"""

from dataclasses import dataclass

# Label of every structure -> its steps. The outermost step comes last and has no brackets; inner steps have theirs.
STRUCTURES = {
    "a + b": ("x = a + b",),
    "a - b": ("x = a - b",),
    "a * b": ("x = a * b",),
    "a / b": ("x = a / b",),
    "( a + b ) + c": ("x = a + b", "y = x + c"),
    "( a + b ) - c": ("x = a + b", "y = x - c"),
    "( a - b ) + c": ("x = a - b", "y = x + c"),
    "( a - b ) - c": ("x = a - b", "y = x - c"),
    "( a + b ) * c": ("x = a + b", "y = x * c"),
    "( a - b ) * c": ("x = a - b", "y = x * c"),
    "( a * b ) + c": ("x = a * b", "y = x + c"),
    "( a * b ) - c": ("x = a * b", "y = x - c"),
    "a - ( b * c )": ("x = b * c", "y = a - x"),
    "( a + b ) / c": ("x = a + b", "y = x / c"),
    "( a - b ) / c": ("x = a - b", "y = x / c"),
    "( a * b ) / c": ("x = a * b", "y = x / c"),
    "( a / b ) + c": ("x = a / b", "y = x + c"),
    "( a / b ) * c": ("x = a / b", "y = x * c"),
    "( a * b ) + ( c * d )": ("x = a * b", "y = c * d", "z = x + y"),
    "( ( a + b ) * c ) - d": ("x = a + b", "y = x * c", "z = y - d"),
    "( ( a + b ) - c ) / d": ("x = a + b", "y = x - c", "z = y / d"),
    "( ( a - b ) * c ) + d": ("x = a - b", "y = x * c", "z = y + d"),
    "( ( a * b ) - c ) / d": ("x = a * b", "y = x - c", "z = y / d"),
}

SHE = (
    "Mia",
    "Anna",
    "Lena",
    "Sofia",
    "Emma",
    "Nora",
    "Zoe",
    "Ruth",
    "Ida",
    "Maya",
    "Clara",
    "Alice",
    "Rosa",
    "Yuki",
    "Amina",
    "Vera",
)
HE = (
    "Tom",
    "Ben",
    "Leo",
    "Sam",
    "Omar",
    "Paul",
    "Max",
    "Ravi",
    "Hugo",
    "Noah",
    "Felix",
    "Adam",
    "Ivan",
    "Kenji",
    "Peter",
    "Luis",
)

OBJECTS = {
    "toys": (
        "marbles",
        "stickers",
        "cards",
        "stamps",
        "coins",
        "shells",
        "beads",
        "buttons",
        "pencils",
        "balloons",
        "postcards",
        "blocks",
    ),
    "food": (
        "apples",
        "pears",
        "plums",
        "peaches",
        "cookies",
        "muffins",
        "oranges",
        "lemons",
        "bananas",
        "eggs",
        "rolls",
        "tomatoes",
    ),
    "plants": ("roses", "tulips", "daisies", "lilies", "bushes", "carrots", "onions", "beans"),
    "animals": ("hens", "sheep", "cows", "goats", "ducks", "horses", "pigs", "rabbits"),
    "tickets": ("tickets", "badges", "caps", "flags", "posters", "mugs"),
    "books": ("books", "comics", "magazines", "novels", "notebooks", "albums"),
}


@dataclass(frozen=True)
class Template:
    """One situation: its structure, what its objects are, ways to tell it, ways to ask, and the worked solution."""

    name: str
    structure: str
    objects: str
    stories: tuple[str, ...]
    questions: tuple[str, ...]
    solution: str


# Sentences with a number {e} that no problem needs, and the word for that number in the solution. {O} is nobody else in the story.
DISTRACTORS = (
    ("{O} has {e} {things}.", "{things} of {O}"),
    ("{O} has {e} {others}.", "{others} of {O}"),
    ("{O} is {e} years old.", "years of {O}"),
    ("The way home takes {e} minutes.", "minutes"),
    ("It is {e} degrees outside.", "degrees"),
    ("The next town is {e} miles away.", "miles to the next town"),
    ("The house has {e} windows.", "windows"),
    ("There are {e} chairs in the room.", "chairs"),
)

TEMPLATES = (
    # One step.
    Template(
        "collect_more",
        "a + b",
        "toys",
        (
            "{N} has {a} {things}. {He} finds {b} more.",
            "{N} finds {b} {things}. {He} already had {a} at home.",
            "{N} had {a} {things} and then got {b} more from {M}.",
        ),
        ("How many {things} does {N} have now?", "How many {things} has {N} got in all?"),
        "{N} starts with {a} {things}. {b} more come to them. {x}.",
    ),
    Template(
        "two_people",
        "a + b",
        "food",
        ("{N} has {a} {things}. {M} has {b} {things}.", "{N} picked {a} {things} and {M} picked {b}."),
        (
            "How many {things} do {N} and {M} have together?",
            "How many {things} is that for {N} and {M} together?",
        ),
        "The {things} of {N} and of {M} count, {a} and {b}. Together {x}.",
    ),
    Template(
        "how_many_before",
        "a + b",
        "animals",
        (
            "{N} sold {b} {things}. Now {he} has {a} {things}.",
            "After {N} sold {b} of {his} {things}, there are {a} left.",
        ),
        ("How many {things} did {N} have before?", "How many {things} did {N} have at first?"),
        "{a} {things} are left and {b} were sold. Before that there were more, so they are added. {x}.",
    ),
    Template(
        "higher_score",
        "a + b",
        "tickets",
        (
            "{N} scored {a} points. {M} scored {b} points more than {N}.",
            "{M} got {b} points more than {N}. {N} got {a} points.",
        ),
        ("How many points did {M} get?",),
        "{N} has {a} points. {M} has {b} more than that. {x}.",
    ),
    Template(
        "eat_some",
        "a - b",
        "food",
        ("{N} had {a} {things}. {He} ate {b} of them.", "{N} ate {b} of {his} {a} {things}."),
        ("How many {things} does {N} have left?", "How many {things} are left for {N}?"),
        "{N} starts with {a} {things}. {b} are gone. {x}.",
    ),
    Template(
        "difference",
        "a - b",
        "toys",
        ("{N} has {a} {things}. {M} has {b} {things}.", "{M} has {b} {things} and {N} has {a}."),
        ("How many more {things} does {N} have than {M}?", "How many fewer {things} does {M} have than {N}?"),
        "{N} has the larger number, {a}. {M} has {b}. The difference counts. {x}.",
    ),
    Template(
        "pages_left",
        "a - b",
        "books",
        (
            "{N} reads a book of {a} pages. {He} has read {b} pages so far.",
            "{N} has read {b} pages of a book. The book has {a} pages.",
        ),
        ("How many pages are left for {N}?", "How many pages does {N} still have to read?"),
        "The whole book has {a} pages. {b} of them are done. {x}.",
    ),
    Template(
        "saving_goal",
        "a - b",
        "tickets",
        (
            "{N} wants a bike for {a} dollars. {He} has saved {b} dollars.",
            "{N} has {b} dollars. The game that {he} wants costs {a} dollars.",
        ),
        ("How many dollars does {N} still need?", "How much more money does {N} need?"),
        "The price is {a} dollars. {b} dollars are there already. {x}.",
    ),
    Template(
        "boxes",
        "a * b",
        "toys",
        (
            "{N} has {a} boxes with {b} {things} in each.",
            "There are {b} {things} in each box. {N} has {a} boxes.",
        ),
        ("How many {things} does {N} have?", "How many {things} does {N} have in all?"),
        "There are {a} boxes. Each box holds {b} {things}. {x}.",
    ),
    Template(
        "rows",
        "a * b",
        "plants",
        (
            "{N} plants {a} rows of {things}. Each row has {b} {things}.",
            "{N} puts {b} {things} in every row. There are {a} rows in the garden.",
        ),
        ("How many {things} does {N} plant?", "How many {things} are in the garden of {N}?"),
        "There are {a} rows. Each row has {b} {things}. {x}.",
    ),
    Template(
        "price",
        "a * b",
        "tickets",
        (
            "{N} buys {a} {things}. Each costs {b} dollars.",
            "At the shop, {things} cost {b} dollars each. {N} buys {a} of them.",
        ),
        ("How much does {N} pay?", "How many dollars does {N} pay in all?"),
        "{N} buys {a} {things}. Each of them costs {b} dollars. {x}.",
    ),
    Template(
        "times_as_many",
        "a * b",
        "food",
        (
            "{N} has {b} {things}. {M} has {a} times as many.",
            "{M} has {a} times as many {things} as {N}. {N} has {b} {things}.",
        ),
        ("How many {things} does {M} have?",),
        "{N} has {b} {things}. {M} has {a} times that. {x}.",
    ),
    Template(
        "share",
        "a / b",
        "food",
        (
            "{N} shares {a} {things} equally among {b} friends.",
            "{b} friends get the same share of the {a} {things} of {N}.",
        ),
        ("How many {things} does each friend of {N} get?",),
        "There are {a} {things}. They are shared by {b} friends. {x}.",
    ),
    Template(
        "bags_needed",
        "a / b",
        "toys",
        (
            "{N} puts {a} {things} into bags of {b}.",
            "A bag holds {b} {things}. {N} has {a} {things} to pack.",
        ),
        ("How many bags does {N} fill?", "How many bags does {N} need?"),
        "There are {a} {things}. Every bag takes {b} of them. {x}.",
    ),
    Template(
        "speed",
        "a / b",
        "tickets",
        ("{N} rides {a} miles in {b} hours.", "In {b} hours, the train of {N} goes {a} miles."),
        ("How many miles does {N} go in one hour?",),
        "The way is {a} miles. It takes {b} hours. {x}.",
    ),
    # Two steps.
    Template(
        "three_days",
        "( a + b ) + c",
        "food",
        (
            "{N} picked {a} {things} on Monday, {b} on Tuesday and {c} on Friday.",
            "On Monday {N} sold {a} {things}. On Tuesday {he} sold {b}. On Friday {he} sold {c}.",
        ),
        ("How many {things} is that for {N} in all?", "How many {things} did {N} count on these days?"),
        "All three days count. The first two make {x}. With Friday, {y}.",
    ),
    Template(
        "class_trip",
        "( a + b ) + c",
        "tickets",
        (
            "{a} girls, {b} boys and {c} teachers go on a trip with {N}'s school.",
            "{N}'s school sends {a} girls and {b} boys on a trip. {c} teachers go with them.",
        ),
        ("How many people does {N} count on the trip?",),
        "All the people count. There are {x} children. With the teachers, {y}.",
    ),
    Template(
        "buy_then_give",
        "( a + b ) - c",
        "toys",
        (
            "{N} has {a} {things}. {He} buys {b} more and gives {c} to {M}.",
            "{N} had {a} {things} and got {b} more. Then {he} lost {c}.",
            "{N} gives {c} {things} to {M}. Before that {he} had {a} and bought {b} more.",
        ),
        ("How many {things} does {N} have now?", "How many {things} are left for {N}?"),
        "{N} starts with {a} and gets {b} more, {x}. Then {c} go away. {y}.",
    ),
    Template(
        "bus_stop",
        "( a - b ) + c",
        "tickets",
        (
            "There are {a} people on the bus of {N}. {b} get off and {c} get on.",
            "{N} drives a bus with {a} people. At the stop {c} people get on and {b} get off.",
        ),
        ("How many people are on the bus of {N} now?",),
        "The bus has {a} people. {b} get off, {x}. {c} get on, {y}.",
    ),
    Template(
        "sold_then_born",
        "( a - b ) + c",
        "animals",
        (
            "{N} has {a} {things}. {He} sells {b} of them. Then {c} are born.",
            "A farm has {a} {things}. {N} sells {b} and buys {c} new ones.",
        ),
        ("How many {things} does {N} have now?", "How many {things} are on the farm of {N} now?"),
        "At first there are {a} {things}. {b} are sold, {x}. {c} come, {y}.",
    ),
    Template(
        "spend_twice",
        "( a - b ) - c",
        "tickets",
        (
            "{N} has {a} dollars. {He} pays {b} dollars for lunch and {c} dollars for a book.",
            "{N} pays {b} dollars for a cap and {c} dollars for a ball. {He} had {a} dollars.",
        ),
        ("How many dollars does {N} have left?", "How much money is left for {N}?"),
        "{N} has {a} dollars. First {b} are paid, {x}. Then {c} are paid, {y}.",
    ),
    Template(
        "market_day",
        "( a - b ) - c",
        "food",
        (
            "{N} brings {a} {things} to the market. {He} sells {b} in the morning and {c} in the evening.",
            "In the morning {N} sells {b} {things} and in the evening {c}. {He} had {a} {things}.",
        ),
        ("How many {things} are left for {N}?", "How many {things} does {N} have at night?"),
        "There are {a} {things}. The morning takes {b}, {x}. The evening takes {c}, {y}.",
    ),
    Template(
        "bags_of_two_kinds",
        "( a + b ) * c",
        "toys",
        (
            "{N} puts {a} red {things} and {b} blue ones in each bag. There are {c} bags.",
            "{N} fills {c} bags. Each bag gets {a} red {things} and {b} blue ones.",
        ),
        ("How many {things} does {N} need?", "How many {things} does {N} use in all?"),
        "One bag holds red and blue {things}, {x}. There are {c} bags. {y}.",
    ),
    Template(
        "weekly_training",
        "( a + b ) * c",
        "tickets",
        (
            "Each day {N} runs {a} laps in the morning and {b} laps in the evening. {He} does this for {c} days.",
            "For {c} days {N} runs {a} laps before school and {b} laps after school.",
        ),
        ("How many laps does {N} run?", "How many laps does {N} run in all?"),
        "One day has {x} laps. There are {c} such days. {y}.",
    ),
    Template(
        "set_price",
        "( a + b ) * c",
        "books",
        (
            "A pen costs {a} dollars and a ruler {b} dollars. {N} buys {c} of each.",
            "{N} buys {c} pens and as many rulers. A pen is {a} dollars, a ruler {b} dollars.",
        ),
        ("How much does {N} pay?", "How many dollars does {N} pay in all?"),
        "A pen and a ruler cost {x} dollars. {N} takes {c} of both. {y}.",
    ),
    Template(
        "broken_in_each",
        "( a - b ) * c",
        "food",
        (
            "{N} has {c} crates with {a} {things} each. In each crate {b} are bad.",
            "Each crate holds {a} {things}, but {b} of them are bad. {N} has {c} crates.",
        ),
        ("How many good {things} does {N} have?",),
        "In one crate {b} of {a} are bad, {x} good ones. There are {c} crates. {y}.",
    ),
    Template(
        "profit",
        "( a - b ) * c",
        "tickets",
        (
            "{N} buys {things} for {b} dollars each and sells them for {a} dollars each. {He} sells {c} {things}.",
            "{N} sells {c} {things} for {a} dollars each. {He} had paid {b} dollars for each.",
        ),
        ("How many dollars does {N} earn?", "How much money does {N} make?"),
        "Each one brings {a} and costs {b}, so {x} dollars remain. {c} are sold. {y}.",
    ),
    Template(
        "discount",
        "( a - b ) * c",
        "books",
        (
            "The {things} cost {a} dollars each. Today each is {b} dollars cheaper. {N} buys {c}.",
            "{N} buys {c} {things} at {a} dollars. There are {b} dollars off on each.",
        ),
        ("How much does {N} pay?", "How many dollars does {N} pay?"),
        "One costs {b} less than {a}, {x} dollars. {N} buys {c}. {y}.",
    ),
    Template(
        "boxes_and_loose",
        "( a * b ) + c",
        "toys",
        (
            "{N} has {a} boxes of {b} {things} and {c} loose ones.",
            "{N} has {c} loose {things}. {He} also has {a} boxes with {b} in each.",
        ),
        ("How many {things} does {N} have?", "How many {things} does {N} have in all?"),
        "The boxes hold {a} times {b}, {x}. The loose ones come to that, {y}.",
    ),
    Template(
        "taxi",
        "( a * b ) + c",
        "tickets",
        (
            "A taxi costs {c} dollars to start and {b} dollars a mile. {N} goes {a} miles.",
            "{N} takes a taxi for {a} miles at {b} dollars a mile. The start costs {c} dollars.",
        ),
        ("How much does {N} pay?", "How many dollars does {N} pay?"),
        "The miles cost {x} dollars. The start costs {c} more, {y}.",
    ),
    Template(
        "weeks_of_saving",
        "( a * b ) + c",
        "tickets",
        (
            "{N} saves {b} dollars a week for {a} weeks. {He} had {c} dollars before.",
            "{N} has {c} dollars. Then {he} saves {b} dollars in each of {a} weeks.",
        ),
        ("How many dollars does {N} have now?", "How much money does {N} have then?"),
        "In {a} weeks {N} saves {x} dollars. With the first {c}, {y}.",
    ),
    Template(
        "trays_minus_bad",
        "( a * b ) - c",
        "food",
        (
            "{N} fills {a} trays with {b} {things} each. {c} of them are bad.",
            "{c} {things} fell down. {N} had {a} trays with {b} on each.",
        ),
        ("How many good {things} does {N} have?", "How many {things} are left for {N}?"),
        "The trays hold {x} {things}. {c} of them are lost, {y}.",
    ),
    Template(
        "garden_eaten",
        "( a * b ) - c",
        "plants",
        (
            "{N} plants {a} rows of {b} {things}. Rabbits eat {c} of them.",
            "Rabbits eat {c} {things} of {N}. {He} had planted {a} rows of {b}.",
        ),
        ("How many {things} does {N} have left?", "How many {things} are left in the garden of {N}?"),
        "{N} plants {a} rows of {b}, {x}. The rabbits take {c}. {y}.",
    ),
    Template(
        "change",
        "a - ( b * c )",
        "tickets",
        (
            "{N} has {a} dollars. {He} buys {b} {things} for {c} dollars each.",
            "{N} buys {b} {things}. Each costs {c} dollars. {He} had {a} dollars.",
        ),
        ("How many dollars does {N} have left?", "How much money is left for {N}?"),
        "The {things} cost {x} dollars. {N} had {a} dollars before. {y}.",
    ),
    Template(
        "fed_each_day",
        "a - ( b * c )",
        "animals",
        (
            "{N} has {a} kilos of hay. {He} feeds {c} kilos a day to the {things} for {b} days.",
            "For {b} days the {things} of {N} eat {c} kilos a day. There were {a} kilos.",
        ),
        ("How many kilos does {N} have left?", "How many kilos are left for {N}?"),
        "In {b} days {c} kilos a day are eaten, {x}. From {a} kilos, {y} are left.",
    ),
    Template(
        "pool_and_share",
        "( a + b ) / c",
        "food",
        (
            "{N} has {a} {things} and {M} has {b}. They put them together and share them among {c} friends.",
            "{c} friends share the {a} {things} of {N} and the {b} {things} of {M}.",
        ),
        ("How many {things} from {N} and {M} does each friend get?",),
        "Together there are {x} {things}. {c} friends share them. {y}.",
    ),
    Template(
        "teams",
        "( a + b ) / c",
        "tickets",
        (
            "{a} girls and {b} boys come to {N}'s sports day. They make teams of {c}.",
            "{N} makes teams of {c} from {a} girls and {b} boys.",
        ),
        ("How many teams does {N} get?",),
        "There are {x} children. Each team takes {c} of them. {y}.",
    ),
    Template(
        "keep_then_share",
        "( a - b ) / c",
        "toys",
        (
            "{N} has {a} {things}. {He} keeps {b} and shares the rest among {c} friends.",
            "{N} shares {his} {a} {things} among {c} friends, but keeps {b} first.",
        ),
        ("How many {things} does each friend of {N} get?",),
        "{N} keeps {b} of {a}, {x} are shared. There are {c} friends. {y}.",
    ),
    Template(
        "shelves",
        "( a - b ) / c",
        "books",
        (
            "{N} has {a} {things}. {b} are given away and the others go on shelves of {c}.",
            "A shelf holds {c} {things}. {N} had {a} and gave {b} away.",
        ),
        ("How many shelves does {N} need?", "How many shelves does {N} fill?"),
        "{b} of the {a} {things} are gone, {x} remain. Each shelf takes {c}. {y}.",
    ),
    Template(
        "repack",
        "( a * b ) / c",
        "food",
        (
            "{N} has {a} bags with {b} {things} each. {He} packs them into boxes of {c}.",
            "{N} packs boxes of {c} {things}. {He} has {a} bags, each with {b} {things}.",
        ),
        ("How many boxes does {N} fill?", "How many boxes does {N} need?"),
        "The bags hold {x} {things}. Each box takes {c} of them. {y}.",
    ),
    Template(
        "split_cost",
        "( a * b ) / c",
        "tickets",
        (
            "{N} buys {a} {things} at {b} dollars each. {c} friends share the cost.",
            "{c} friends share the cost of {a} {things}. {N} pays {b} dollars for each.",
        ),
        ("How many dollars does each friend of {N} pay?",),
        "All {things} cost {x} dollars. {c} friends share that. {y}.",
    ),
    Template(
        "share_plus_own",
        "( a / b ) + c",
        "toys",
        (
            "{b} children share {a} {things} equally. {N} is one of them and had {c} {things} before.",
            "{N} had {c} {things}. Then {he} and others, {b} children in all, share {a} {things}.",
        ),
        ("How many {things} does {N} have now?", "How many {things} has {N} got in the end?"),
        "Each child gets a share, {x}. {N} had {c} before, so {y}.",
    ),
    Template(
        "recipe",
        "( a / b ) * c",
        "food",
        (
            "{N} needs {a} {things} for {b} cakes. {He} wants to bake {c} cakes.",
            "For {c} cakes, {N} looks at a recipe. It takes {a} {things} for {b} cakes.",
        ),
        ("How many {things} does {N} need?",),
        "One cake takes {x} {things}. {N} bakes {c} cakes. {y}.",
    ),
    Template(
        "steady_trip",
        "( a / b ) * c",
        "tickets",
        (
            "{N} drives {a} miles in {b} hours. Then {he} drives {c} hours at the same speed.",
            "In {b} hours {N} drives {a} miles. {He} drives on for {c} hours just as fast.",
        ),
        ("How many miles does {N} drive in the last {c} hours?",),
        "In one hour {N} drives {x} miles. Now it is {c} hours. {y}.",
    ),
    # Three steps.
    Template(
        "two_kinds_of_boxes",
        "( a * b ) + ( c * d )",
        "food",
        (
            "{N} has {a} bags of {b} {things} and {c} boxes of {d} {things}.",
            "{N} buys {a} bags with {b} {things} each. {He} also buys {c} boxes with {d} in each.",
        ),
        ("How many {things} does {N} have?", "How many {things} does {N} have in all?"),
        "The bags hold {x}. The boxes hold {y}. Both together, {z}.",
    ),
    Template(
        "two_prices",
        "( a * b ) + ( c * d )",
        "tickets",
        (
            "{N} buys {a} {things} at {b} dollars and {c} books at {d} dollars.",
            "A book costs {d} dollars and the {things} cost {b} dollars each. {N} buys {a} {things} and {c} books.",
        ),
        ("How much does {N} pay?", "How many dollars does {N} pay in all?"),
        "The {things} cost {x}. The books cost {y}. Both together, {z}.",
    ),
    Template(
        "party_bags",
        "( ( a + b ) * c ) - d",
        "toys",
        (
            "{N} puts {a} red and {b} green {things} in each of {c} bags. Then {d} {things} get lost.",
            "{N} fills {c} bags with {a} red and {b} green {things} each. {d} of all the {things} break.",
        ),
        ("How many {things} does {N} have left?", "How many {things} are left for {N}?"),
        "One bag has {x}. All {c} bags have {y}. {d} are lost, {z}.",
    ),
    Template(
        "market_pool",
        "( ( a + b ) - c ) / d",
        "food",
        (
            "{N} picks {a} {things} and {M} picks {b}. {c} are bad. They put the rest in bags of {d}.",
            "{N} and {M} pick {a} and {b} {things}. They throw {c} away and fill bags of {d}.",
        ),
        ("How many bags do {N} and {M} fill?",),
        "Together they pick {x}. Without the bad ones, {y}. Each bag takes {d}. {z}.",
    ),
    Template(
        "sale_with_tip",
        "( ( a - b ) * c ) + d",
        "books",
        (
            "The {things} cost {a} dollars each, but {b} dollars less today. {N} buys {c} and pays {d} dollars for a bag.",
            "{N} pays {d} dollars for a bag and buys {c} {things}. Each costs {a} dollars, less {b} dollars today.",
        ),
        ("How much does {N} pay?", "How many dollars does {N} pay in all?"),
        "One costs {x} today. {N} buys {c}, {y}. With the bag for {d}, {z}.",
    ),
    Template(
        "harvest_share",
        "( ( a * b ) - c ) / d",
        "plants",
        (
            "{N} grows {a} rows of {b} {things}. {He} keeps {c} and shares the rest among {d} neighbors.",
            "{d} neighbors share the {things} of {N}. {He} has {a} rows of {b} and keeps {c}.",
        ),
        ("How many {things} does each neighbor of {N} get?",),
        "The rows have {x} {things}. {N} keeps {c}, {y} are shared. {d} neighbors share, {z}.",
    ),
)
