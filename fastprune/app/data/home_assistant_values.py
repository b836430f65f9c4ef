"""Values for the slots whose words the home-assistant-intents package leaves open.

Written by hand for this project.  `DEVICE_NAMES` holds device names by Home Assistant domain; `OPEN_LISTS`
everything else.  Order matters: the train/test split of the values is a function of it.
"""

from __future__ import annotations

# One value a line would make this table five pages long.
# fmt: off

DEVICE_NAMES: dict[str, list[str]] = {
    "binary_sensor": [
        "front window", "patio door sensor", "motion detector", "garage side door", "attic hatch",
        "mailbox", "smoke detector", "back gate", "skylight", "pantry door", "driveway sensor",
        "cellar window", "leak sensor", "porch motion", "chair sensor",
    ],
    "button": [
        "doorbell", "reset", "water the plants", "feed the cat", "gate opener", "restart router",
        "find my phone", "identify", "panic", "self clean", "morning coffee", "firmware update",
    ],
    "climate": [
        "thermostat", "air conditioner", "heat pump", "radiator", "floor heating", "towel warmer",
        "hallway thermostat", "nursery heater", "ac unit", "boiler", "wood stove", "mini split",
    ],
    "cover": [
        "left curtain", "patio awning", "roller blind", "garage door", "sun shade", "roman shade",
        "bay window blinds", "front gate", "projector screen cover", "skylight shutter",
        "pergola roof", "balcony screen", "storm shutters", "velvet curtains",
    ],
    "fan": [
        "ceiling fan", "tower fan", "exhaust fan", "bathroom extractor", "air purifier",
        "desk fan", "range hood", "whole house fan", "box fan", "dehumidifier",
    ],
    "lawn_mower": ["robo mower", "mower", "grass hopper", "front yard mower", "lawn bot", "clipper"],
    "light": [
        "desk lamp", "chandelier", "reading light", "floor lamp", "night light", "porch light",
        "led strip", "pendant", "spotlight", "bedside lamp", "christmas tree", "string lights",
        "mirror light", "tv backlight", "vanity", "flood light", "salt lamp", "globe", "aquarium light",
        "sofa lamp", "track lights", "lantern",
    ],
    "lock": [
        "front door", "back door", "side entrance", "gun safe", "shed lock", "patio lock",
        "deadbolt", "bike locker", "cellar door", "wine cabinet", "main entrance", "deck gate",
    ],
    "media_player": [
        "living room tv", "soundbar", "kitchen speaker", "record player", "projector", "home theater",
        "shower radio", "chromecast", "stereo", "apple tv", "bedroom speaker", "party speaker",
        "boombox", "headphones", "karaoke machine",
    ],
    "person": [
        "alice", "bob", "grandma", "my brother", "uncle joe", "maria", "dad", "the babysitter",
        "sam", "doctor lee", "jenny", "my wife", "anna marie", "kofi", "yuki",
    ],
    "scene": [
        "movie night", "dinner party", "good morning", "bedtime", "relax", "romantic evening",
        "game day", "deep focus", "away mode", "sunset", "spa", "rainy sunday", "wake up", "disco",
    ],
    "script": [
        "goodnight routine", "water the garden", "leaving home", "vacation mode", "flash the lights",
        "morning announcements", "laundry reminder", "start the day", "lock everything", "test alarm",
    ],
    "sensor": [
        "outdoor humidity", "power meter", "air quality", "water usage", "battery level", "rain gauge",
        "co2 level", "electricity price", "wind speed", "fridge temperature", "soil moisture",
        "uv index", "solar production",
    ],
    "switch": [
        "coffee maker", "kettle", "heater plug", "pool pump", "sprinkler", "washing machine", "printer",
        "electric blanket", "fountain", "dryer", "slow cooker", "humidifier", "router", "hot tub",
        "3d printer", "pond filter",
    ],
    "todo": [
        "chores", "groceries", "hardware store", "packing", "work", "birthday", "weekend", "wish",
        "camping trip", "school supplies", "christmas", "house repairs", "reading", "bucket",
    ],
    "vacuum": ["robot vacuum", "roomba", "dust buster", "upstairs vacuum", "mister clean", "rosie", "dobby"],
    "valve": [
        "water main", "garden valve", "gas valve", "irrigation valve", "radiator valve", "pool fill",
        "drip line", "shutoff valve", "greenhouse valve",
    ],
    "weather": [
        "berlin", "new york", "san francisco", "the beach house", "tokyo", "cape town", "lisbon",
        "boston", "salt lake city", "oslo", "rio de janeiro", "mumbai", "the cabin", "dublin",
    ],
}

# Domains that share another domain's names.
SAME_NAMES = {"input_boolean": "switch", "input_button": "button"}

OPEN_LISTS: dict[str, list[str]] = {
    "area": [
        "kitchen", "living room", "bedroom", "master bedroom", "bathroom", "guest bathroom", "garage",
        "office", "hallway", "dining room", "laundry room", "kids room", "nursery", "attic", "basement",
        "garden", "patio", "balcony", "pantry", "library", "home gym", "music room", "sun room",
        "wine cellar", "guest room", "den", "mud room", "workshop", "tv room", "front yard", "foyer",
        "walk in closet", "study", "utility room", "playroom", "game room",
    ],
    "floor": [
        "first", "second", "ground", "top", "upstairs", "downstairs", "third", "lower level",
        "upper level", "main level", "basement level", "loft", "mezzanine", "penthouse",
    ],
    "message": [
        "dinner is ready", "time to go to school", "the pizza is here", "please come downstairs",
        "we are leaving in five minutes", "the movie starts soon", "wash your hands",
        "somebody is at the door", "breakfast is on the table", "the dog needs a walk",
        "lights out in ten minutes", "grandma is on the phone", "bring your jackets", "game over",
        "the bus is coming", "clean up your room", "happy birthday", "i am home", "do your homework",
        "the cake is done", "turn the music down", "lunch", "the laundry is finished", "guests arrived",
        "get ready for bed", "meeting starts now", "the baby is asleep", "family meeting in the kitchen",
        "uncle joe is here", "leave your shoes at the door", "the car is packed", "tea time",
        "check the oven", "somebody left the fridge open", "close the windows it is raining",
        "feed the fish", "taxi is waiting outside", "everyone to the table", "storm warning",
        "i need help in the garage",
    ],
    "search_query": [
        "abbey road", "the beatles", "bohemian rhapsody", "miles davis", "kind of blue", "jazz for dinner",
        "star wars", "the office", "stranger things", "taylor swift", "morning news", "lo fi beats",
        "dark side of the moon", "nina simone", "the daily", "hamilton", "frozen", "planet earth",
        "summer hits", "hotel california", "adele", "rain sounds", "workout mix", "the lion king",
        "queen", "purple rain", "serial", "daft punk", "chopin nocturnes", "road trip classics",
        "back to black", "the great british bake off", "sesame street", "white noise", "fleetwood mac",
        "thriller", "radiolab", "the wizard of oz", "bossa nova", "stairway to heaven",
        "jurassic park", "ella fitzgerald", "songs in the key of life", "toy story", "metallica",
    ],
    "shopping_list_item": [
        "milk", "eggs", "bread", "olive oil", "toilet paper", "orange juice", "bananas", "peanut butter",
        "dish soap", "green tea", "cheddar cheese", "rice", "coffee beans", "batteries", "light bulbs",
        "frozen peas", "dog food", "ice cream", "tomatoes", "brown sugar", "paper towels", "yogurt",
        "chicken breast", "garlic", "sparkling water", "cat litter", "flour", "toothpaste", "spinach",
        "baking powder", "apples", "ground beef", "shampoo", "maple syrup", "salt", "red wine", "tofu",
        "oat milk", "lemons", "trash bags", "butter", "soy sauce",
    ],
    "timer_command": [
        "turn off the tv", "open the garage door", "turn on the coffee maker", "lock the front door",
        "close the blinds", "turn off all the lights", "pause the music", "start the vacuum",
        "turn on the sprinkler", "dim the lights", "play jazz", "turn off the oven", "open the curtains",
        "set the thermostat to 20 degrees", "turn off the heater", "unlock the back door",
        "turn on the night light", "stop the mower", "mute the tv", "turn down the volume",
        "switch off the fan", "lower the shades", "turn off the radio", "start the dishwasher",
    ],
    "timer_name": [
        "pizza", "pasta", "egg", "laundry", "tea", "homework", "workout", "bread", "cookie", "nap",
        "roast chicken", "meditation", "oven", "piano practice", "parking meter", "steak", "rice",
        "brownie", "face mask", "screen time", "soup", "yoga", "bath", "cold brew", "sourdough",
        "sauna", "plank", "study break",
    ],
    "todo_list_item": [
        "call the dentist", "mow the lawn", "pay the rent", "buy a birthday card", "fix the sink",
        "return library books", "water the plants", "clean the gutters", "book a hotel", "wash the car",
        "renew passport", "vacuum the stairs", "email the landlord", "sunscreen", "sleeping bags",
        "paint the fence", "drill bits", "change the air filter", "pick up dry cleaning", "new sneakers",
        "order contact lenses", "schedule oil change", "wood screws", "cancel gym membership",
        "write thank you notes", "bake a cake", "notebooks", "trim the hedge", "file taxes", "tent pegs",
        "walk the dog", "sharpen the knives", "frame the photos", "charge the camera",
    ],
    "zone": [
        "home", "work", "school", "the gym", "the office", "grandma's house", "the airport", "daycare",
        "the train station", "the mall", "soccer practice", "the lake", "church", "downtown",
    ],
}
