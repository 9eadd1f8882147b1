"""The eight tasks: their classes, how a picture's name decides its class, and which sources are held out.

Classes are broad on purpose: a hundred narrow classes with eight pictures each cannot be measured stably.
A picture's class follows from its name by the first rule that matches; pictures that match none take no part
in that task (the base may still learn from them, if their source is a training source).
"""

# The tables below read best one entry a line, however long.
# ruff: noqa: E501, SIM905

from __future__ import annotations

import re
from dataclasses import dataclass

TEST_VENDORS = frozenset({"emojione", "streamline-emojis"})
"""Icon sets from which only test pictures are taken."""

VALIDATION_VENDORS = frozenset({"fxemoji", "icon-park", "cif"})
"""Icon sets from which only validation pictures are taken."""

TEMPLATES = ("{}", "a picture of {}", "an icon of {}")
"""Prompt templates of every task unless it has its own; `{}` stands for the class name."""


@dataclass(frozen=True)
class Task:
    """One classification task. `rules` holds (class name, pattern on the picture's name), first match wins."""

    name: str
    title: str
    description: str
    classes: tuple[str, ...]
    rules: tuple[tuple[str, str], ...] = ()
    templates: tuple[str, ...] = TEMPLATES

    def classify(self, name: str) -> int:
        """Index of the class whose rule matches `name` first, or -1."""
        for label, pattern in self.rules:
            if re.search(rf"\b(?:{pattern})", name):
                return self.classes.index(label)
        return -1


def _ruled(name: str, title: str, description: str, rules: tuple[tuple[str, str], ...]) -> Task:
    classes = tuple(dict.fromkeys(label for label, _ in rules if label))
    return Task(name, title, description, classes, rules)


ANIMALS = _ruled(
    "animals", "Animals, plants", "Which kind of animal or plant is drawn; the test artists are unseen.",
    (
        ("fish", r".*(cichlid|angelfish|loach|gourami)"),
        ("cat or big cat", r"cats?\b|black cat|lion|tiger|leopard|housecats|big cats|kitten|cheetah|panther"),
        ("dog, wolf or fox", r"dogs?\b|guide dog|poodle|wolf|fox|raccoon|puppy|skunk|badger"),
        ("horse or deer", r"horses?\b|unicorn|zebra|deer|moose|donkey|bambi|giraffe|camel|two hump|llama"),
        ("cow, sheep or pig", r"cow|cattle|\box\b|bison|buffalo|bull\b|ram\b|ewe|goat|sheep|lamb\b|pig\b|pig |boar"),
        ("mouse or rabbit", r"mouse|rat\b|hamster|rabbit|bunny|chipmunk|beaver|hedgehog|squirrel|otter"),
        ("monkey", r"monkey|gorilla|orangutan|chimp"),
        ("bear", r"bears?\b|polar bear|koala|panda|sloth"),
        ("elephant", r"elephant|mammoth|rhino|hippo"),
        ("bird", r"bird|turkey|chicken|rooster|chick\b|hatching|penguin|pinguin|dove|eagle|duck|swan|owl|dodo|flamingo"
                 r"|peacock|parrot|goose|pigeon|phoenix|gull|crow|stork|hen\b"),
        ("reptile or frog", r"frog|crocodile|turtle|lizard|lucert|snake|dragon|sauropod|t rex|dinosaur|rana\d*\b|amphibian"
                            r"|tortoise|gecko|ramarro"),
        ("whale or seal", r"whale|dolphin|orca|seal\b|spouting|spurting"),
        ("fish", r"fish\b|tropical fish|blowfish|shark|trout|carp"),
        ("shellfish", r"octopus|shell\b|spiral shell|coral|jellyfish|crab|lobster|shrimp|squid|oyster|crawfish|snail"),
        ("insect or spider", r"butterfly|bug|ant\b|bee\b|honeybee|beetle|lady beetle|ladybug|cricket$|cockroach|spider\b"
                             r"|scorpion|mosquito|fly\b|worm|caterpillar|dragonfly|ladybird"),
        ("flower", r"bouquet|blossom|flower|lotus|rose\b|wilted|hibiscus|tulip|hyacinth|daisy|lily"),
        ("tree", r"tree|evergreen|palm|pine\b|oak\b"),
        ("leaf", r"leaf|seedling|potted|herb|shamrock|clover|sheaf|cactus|plant|grass|bamboo"),
    ),
)  # fmt: skip

FOOD = _ruled(
    "food", "Food and drink", "Which kind of food or drink is drawn; the test artists are unseen.",
    (
        ("ice cream", r"ice ?cream|soft ice|shaved ice|popsicle|sundae"),
        ("hot drink", r"hot beverage|coffee|tea\b|teapot|teacup|kettle|hot chocolate"),
        ("cake or pie", r".*(cake\b|pie\b|shortcake|cupcake|torta)|birthday|custard|galette"),
        ("sweets", r"candy|candied|lollipop|chocolate|cookie|doughnut|donut|honey|dango|fortune cookie|popcorn|marshmallow"),
        ("beer or wine", r"beer|clinking|wine|sake|bottle with popping|champagne|cocktail|tropical drink|tumbler|goblet"
                         r"|liqueur|martini|alcohol|whisky|vodka"),
        ("soft drink", r"milk|glass of milk|baby bottle|cup with straw|bubble tea|beverage box|mate\b|juice|cola|soda"
                       r"|lemonade|water bottle|drink|bottle|cup"),
        ("fast food", r"hamburger|burger|french fries|fries|pizza|slice of pizza|hot dog|hotdog|sandwich|taco|burrito"
                      r"|stuffed flatbread|tamale|falafel|onion rings|nacho"),
        ("bread", r"bread|croissant|baguette|flatbread|pretzel|bagel|pan ?cakes?|waffle|toast|baker|breads and carbs|muffin"),
        ("meat", r"meat on bone|poultry|cut of meat|bacon|meat\b|chicken|turkey|ham\b|steak|sausage|drumstick|barbecue|ribs?\b"),
        ("egg or cheese", r"egg\b|eggs\b|cooking|cheese|butter\b|dairy|painted egg|omelet"),
        ("seafood", r"sushi|fried shrimp|fish|shrimp|crab|lobster|oyster|crawfish"),
        ("rice or noodles", r"bento|rice|curry|cooked rice|steaming bowl|spaghetti|noodle|oden|dumpling|takeout|lasagna"
                            r"|perogies|pasta|ramen|moon cake"),
        ("soup or stew", r"pot of food|soup|stew|fondue|bowl|shallow pan|hot pot|canned food|chafing"),
        ("fruit", r"grape|melon|watermelon|tangerine|orange|lemon|lime\b|banana|pineapple|mango|(red|green)? ?apple|pear\b|peach"
                  r"|cherr|strawberr|blueberr|kiwi|coconut|olive|fruit|plum|berry|avocado"),
        ("vegetable", r"tomato|eggplant|aubergine|potato|roasted sweet|carrot|ear of (corn|maize)|corn\b|hot pepper|chili"
                      r"|bell pepper|pepper|cucumber|leafy|broccoli|garlic|onion|mushroom|peanut|beans?\b|chestnut|ginger|pea pod"
                      r"|peas\b|green salad|salad|brown mushroom|root vegetable|vegetable|radish|scallion|pumpkin|champignon|nut\b"),
        ("cutlery", r"fork|spoon|knife|chopstick|kitchen knife|cutlery|jar\b|amphora|salt\b|plate\b|pan\b|tray"),
    ),
)  # fmt: skip

PLACES = _ruled(
    "places", "Travel and sky", "Which kind of place, vehicle or sky is drawn; the test artists are unseen.",
    (
        ("funfair", r"carousel|ferris|roller coaster|circus|playground|barber|slide\b|theat"),
        ("mountain or island", r"snow capped|mountain|volcano|mount fuji|desert|camping|beach|island|landscape|national park|tent\b"
                               r"|hot springs|foggy|landslide|pyramid|cape\b"),
        ("bicycle or scooter", r"bicycle|bike|motorcycle|motor scooter|kick scooter|scooter|cycle|moto\b"),
        ("bus or truck", r"bus\b|oncoming bus|trolleybus|minibus|ambulance|fire engine|delivery truck|truck|lorry|articulated"
                         r"|tractor|pickup|van\b|big truck|recreational|hummer"),
        ("train", r"locomotive|railway|high speed|highspeed|bullet train|train\b|metro\b|light rail|station|tram\b|tramway"
                  r"|monorail|mountain railway|tram car|steam loco|suspension railway|.*tramway"),
        ("car", r"car\b|police car\b|oncoming (police car|taxi|automobile)|taxi|automobile|sport utility|racing car|racecar"
                r"|auto rickshaw|autos?\b|blazer|toyota|skoda|bmw|dodge|formula|redcar|sportcar|shelby|coupe"),
        ("boat", r"sailboat|canoe|speedboat|passenger ship|ferry|motor boat|ship\b|boat|row ?boat|anchor|cruise|frigate|yacht"
                 r"|boating|sailing"),
        ("aircraft", r"airplane|small airplane|plane\b|helicopter|parachute|jet\b|aviation|take off|landing|aereo"
                     r"|hot air|cable ?car|mountain cable"),
        ("spacecraft or planet", r"rocket|satellite|flying saucer|ringed planet|planet|globe|earth|shuttle|americas|world\b|saturn"
                                 r"|meridian|asia|europe africa|ufo\b"),
        ("moon", r".*moon"),
        ("star", r".*\bstars?\b|comet|milky way|galaxy|dizzy"),
        ("rain or storm", r"cloud with|.*\b(rain|storm|lightning|tornado|cyclone|umbrella|hail)|thunder|high voltage"
                          r"|fog\b|wind\b"),
        ("sun", r".*(\bsun\b|sunrise|sunset|sunny|sun ray|rainbow)|whitesun"),
        ("cloud", r"cloud"),
        ("snow", r"snow\b|snowflake|snowman"),
        ("temple or church", r"church|mosque|hindu|synagogue|shinto|kaaba|wedding|temple|pagoda|cathedral|chapel|taj"),
        ("castle or tower", r"japanese castle|castle|tokyo tower|tower|statue|european castle|classical|light ?house|fountain"
                            r"|eiffel|fortress|palace|monument"),
        ("house", r"house|houses|derelict|hut\b|home|cabin\b|cottage|barn\b|homestay"),
        ("city building", r"office building|.*post office|hospital|bank\b|hotel|love hotel|convenience|school|department store"
                          r"|factory|cityscape|night with|bridge|stadium|building|city|shop|museum|skyscraper"),
        ("clock", r"watch|.*clock|stopwatch|timer|hourglass"),
        ("road sign", r".*traffic light|stop sign|construction|bus stop|motorway|fuel pump|road\b|no entry|traffic|semaforo"
                      r"|parking"),
    ),
)  # fmt: skip

_FACES: dict[str, str] = {
    "happy face": """grinning_face grinning_face_with_big_eyes grinning_face_with_smiling_eyes slightly_smiling_face
        beaming_face_with_smiling_eyes grinning_squinting_face grinning_face_with_sweat rolling_on_the_floor_laughing
        face_with_tears_of_joy upside_down_face smiling_face_with_smiling_eyes smiling_face_with_halo smiling_face
        winking_face relieved_face smiling_face_with_open_hands partying_face cowboy_hat_face star_struck hugging_face
        smiling_face_with_sunglasses nerd_face grin grineyes grinsquint grinsweat grintears grinwide grinwideeyes
        whitesmilingface smileeyes smallsmile halo darksunglasses grinning_face_with_open_mouth
        grinning_face_with_squinting_eyes grinning_face_with_tightly_closed_eyes winking_face_with_open_eyes
        grinning_face_with_tightly_closed_eyes_open_mouth face_with_smiling_open_eyes smiling_face_with_squinting_eyes
        emotion_happy sly_face_whit_smile smiley_happy smiley_laughing smiley_smile smiley_wink smiley_grin smiley_cool
        smiley_nerd smiley_cheerful smiley_lol smiley_shine_big_eyes smiley_rich smiley_blush amusing_face""",
    "face in love": """smiling_face_with_hearts smiling_face_with_heart_eyes face_blowing_a_kiss kissing_face
        kissing_face_with_closed_eyes kissing_face_with_smiling_eyes hearteyes kisseyes kissclosedeyes smiley_kiss
        smiley_in_love smiley_love smiley_kiss_heart smiley_kissing smiley_loving""",
    "face with tongue out": """face_savoring_food face_with_tongue winking_face_with_tongue zany_face crazy_face
        squinting_face_with_tongue smiletongue tongueout tongueoutwink tongueoutwink2 smiley_tongue smiley_naughty
        smiley_drool smiley_crazy smiley_yummy smiley_tongue_out""",
    "neutral face": """face_with_hand_over_mouth shushing_face thinking_face zipper_mouth_face face_with_raised_eyebrow
        neutral_face expressionless_face face_without_mouth dotted_line_face smirking_face unamused_face lying_face
        face_with_rolling_eyes grimacing_face face_with_monocle confused_face face_with_diagonal_mouth nomouth smirk
        smiley_indifferent smiley_thinking smiley_neutral smiley_poker smiley_bored smiley_quiet smiley_unsure
        smiley_thrilled smiley_silent""",
    "sad face": """worried_face slightly_frowning_face frowning_face pensive_face anguished_face sad_but_relieved_face
        frowning_face_with_open_mouth crying_face loudly_crying_face confounded_face persevering_face pleading_face
        disappointed_face downcast_face_with_sweat weary_face tired_face smiling_face_with_tear face_holding_back_tears
        anguish dissapointedrelief frown frownmouth smallfrown perservere emotion_unhappy distraught_face
        frowning_face_whit_open_mouth loudly_crying_face_whit_open_mouth slightly_frowning_face_whit_open_mouth
        smiley_sad smiley_cry smiley_crying smiley_unhappy smiley_worried smiley_disappointed smiley_sad_1
        smiley_frown smiley_concerned smiley_tear""",
    "surprised face": """face_with_open_mouth hushed_face astonished_face flushed_face face_screaming_in_fear
        fearful_face anxious_face_with_sweat exploding_head face_with_open_eyes_and_hand_over_mouth coldsweat
        openmouth screamfear anxious_face amazed_face surprised_face_with_open_big_mouth surprised_face_with_open_mouth
        smiley_surprised smiley_shocked smiley_wow smiley_amazed smiley_scared smiley_shock smiley_surprise
        smiley_frightened""",
    "angry face": """face_with_steam_from_nose enraged_face angry_face face_with_symbols_on_mouth pouting_face
        smiling_face_with_horns angry_face_with_horns devilhorns imp pout pouting triumph anger determined_face
        smiley_angry smiley_mad smiley_evil smiley_rage smiley_devil smiley_furious""",
    "sick or sleepy face": """sleepy_face drooling_face sleeping_face yawning_face face_with_medical_mask
        face_with_thermometer face_with_head_bandage nauseated_face face_vomiting sneezing_face hot_face cold_face
        woozy_face dizzy_face face_with_crossed_out_eyes face_with_spiral_eyes face_with_bags_under_eyes medicalmask
        smiley_sick smiley_sleep smiley_sleepy smiley_dizzy smiley_dead smiley_mask smiley_ill smiley_tired
        smiley_vomit smiley_bandage smiley_fever smiley_hypnotized""",
    "monster": """skull skull_and_crossbones pile_of_poo poo clown_face ogre goblin ghost alien alien_monster robot
        blackskullcrossbones japaneseangrymask robot_face robot_face_1 robot_face_2 robot_face_3""",
    "cat face": """grinning_cat grinning_cat_with_smiling_eyes cat_with_tears_of_joy smiling_cat_with_heart_eyes
        cat_with_wry_smile kissing_cat weary_cat crying_cat pouting_cat grinning_cat_face crying_cat_face
        grinning_cat_face_with_smiling_eyes cat_face_with_tears_of_joy cat_face_with_wry_smile kissing_cat_face
        pouting_cat_face smiling_cat_face_with_heart_eyes weary_cat_face""",
    "heart": """love_letter heart_with_arrow heart_with_ribbon sparkling_heart growing_heart beating_heart
        revolving_hearts two_hearts heart_decoration heart_exclamation broken_heart heart_on_fire mending_heart
        red_heart pink_heart orange_heart yellow_heart green_heart blue_heart light_blue_heart purple_heart brown_heart
        black_heart grey_heart white_heart heartarrow heartblue heartgreen heartpurple heartyellow heartribbon
        2hearts heavy_heart_exclamation like""",
}
FACE_CLASS = {re.sub(r"[^a-z0-9]", "", name): label for label, names in _FACES.items() for name in names.split()}
"""Squeezed emoji name to face class: expressions are told apart by exact names, not by patterns."""

FACES = Task("faces", "Faces, hearts", "Which mood a face shows; the test artists are unseen.", tuple(_FACES))

DIGITS = Task(
    "digits", "Digits", "Which digit was written by hand (MNIST); the test blocks are unseen.",
    ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    templates=("the digit {}", "a picture of the digit {}", "the number {}"),
)  # fmt: skip
LETTERS = Task(
    "letters", "Letters", "Which letter, upper or lower case, in handwriting and display typefaces never seen.",
    tuple("abcdefghijklmnopqrstuvwxyz"), templates=("the letter {}", "a picture of the letter {}", "letter {}"),
)  # fmt: skip

STYLE_NAMES = {
    "noto": "noto", "noto-v1": "old noto", "twemoji": "twemoji", "fluent-emoji-flat": "flat fluent",
    "fluent-emoji": "shaded fluent", "openclipart": "clip art", "game-icons": "silhouette",
    "streamline-freehand-color": "freehand", "streamline-ultimate-color": "outline", "fluent-color": "gradient",
}  # fmt: skip
"""Training source to the name of its drawing style."""
STYLES = Task(
    "styles", "Drawing styles", "Which collection drew the picture; the test subjects are unseen in every style.",
    tuple(STYLE_NAMES.values()),
    templates=("a picture in {} style", "{} style", "an icon in {} style"),
)  # fmt: skip

FLAG_TEMPLATES = ("the flag of {}", "flag of {}", "a picture of the flag of {}")
# Territories whose flag is another country's, or nearly: no picture could tell them apart.
FLAG_TWINS = frozenset("bv sj hm um mf gp re yt pm wf bl gf mq nc cp dg ta ac ic ea eu un sh io".split())


def all_tasks(countries: tuple[str, ...]) -> dict[str, Task]:
    """The eight tasks by name; the classes of `flags` are the given country names."""
    flags = Task("flags", "Flags", "Which country's flag it is, drawn round; training saw square-cut flags only.",
                 countries, templates=FLAG_TEMPLATES)  # fmt: skip
    return {task.name: task for task in (DIGITS, LETTERS, flags, ANIMALS, FOOD, FACES, PLACES, STYLES)}


# What other sources call pictures that the rules know under another name.
ALIASES = {
    "bunnyside": "rabbit", "catside": "cat", "dogside": "dog", "dragonhead": "dragon", "dragonside": "dragon",
    "frontfacingchick": "chick", "hampster": "hamster", "pigside": "pig", "tigerside": "tiger", "mouseside": "mouse",
    "leopardside": "leopard", "monkeyhear": "monkey", "monkeysee": "monkey", "monkeyspeak": "monkey",
    "bactriancamel": "camel", "dromedarycamel": "camel", "fallingleaf": "leaf", "leaffluttering": "leaf",
    "bouquetofflowers": "bouquet", "doveofpeace": "dove", "sliceofpizza": "pizza", "chilipepper": "chili",
    "curryandrice": "curry", "earofmaize": "corn", "fishcakeswirl": "fish cake with swirl", "forkknife": "fork",
    "sakebottleandcup": "sake", "americasglobe": "globe", "asiaaustraliaglobe": "globe", "europeafricaglobe": "globe",
    "europeancastle": "castle", "europeanpostoffice": "post office", "fullmoonwithface": "moon",
    "newmoonwithface": "moon", "waningbibbousmoon": "moon", "highspeedtrainbulletnose": "bullet train",
    "steamlocomotive": "locomotive", "housebuilding": "house", "housebuildings": "house", "beachumbrella": "beach",
    "raincloud": "rain", "snowcloud": "snow", "stormcloud": "storm", "sunraincloud": "rain", "sunrays": "sun",
    "sunsetoverbuildings": "sunset", "whitesun": "sun", "whitesunbehindcloud": "cloud", "whitesunsmallcloud": "cloud",
    "snowmountains": "mountain", "toykotower": "tower", "recreationalvehicle": "van", "racecar": "racing car",
    "manltepiececlock": "clock", "hourglassflowingsand": "hourglass", "rowboat": "boat", "whitestar": "star",
    "whitemediumstar": "star", "constructionsign": "construction", "policecarsrevolvinglight": "",
}  # fmt: skip
