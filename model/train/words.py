"""Fillers for the templates: names, places, products, words of telephone systems. Plain lists, no logic."""
# ruff: noqa: SIM905 - a list of two hundred quoted words is harder to read

FIRST = (
    "james mary robert patricia john jennifer michael linda david elizabeth william barbara richard susan joseph "
    "jessica thomas sarah charles karen christopher lisa daniel nancy matthew betty anthony sandra mark margaret "
    "donald ashley steven kimberly paul emily andrew donna joshua michelle kenneth carol kevin amanda brian melissa "
    "george deborah timothy stephanie ronald rebecca edward sharon jason laura jeffrey cynthia ryan kathleen jacob "
    "amy gary angela nicholas shirley eric anna jonathan brenda stephen pamela larry emma justin nicole scott helen "
    "brandon samantha benjamin katherine samuel christine gregory rachel frank carolyn alexander janet raymond "
    "catherine patrick maria jack heather dennis diane jerry julie tyler joyce aaron victoria jose kelly adam "
    "christina nathan joan henry evelyn zachary judith peter megan kyle andrea ethan cheryl walter hannah noah "
    "jacqueline jeremy martha christian madison keith teresa roger gloria terry sara austin janice sean ann gerald "
    "alice carl julia harold grace arthur judy priya ahmed wei olga fatima carlos ravi yuki ingrid omar"
).split()
LAST = (
    "smith johnson williams brown jones garcia miller davis rodriguez martinez hernandez lopez gonzalez wilson "
    "anderson thomas taylor moore jackson martin lee perez thompson white harris sanchez clark ramirez lewis robinson "
    "walker young allen king wright scott torres nguyen hill flores green adams nelson baker hall rivera campbell "
    "mitchell carter roberts gomez phillips evans turner diaz parker cruz edwards collins reyes stewart morris morales "
    "murphy cook rogers gutierrez ortiz morgan cooper peterson bailey reed kelly howard ramos kim cox ward richardson "
    "watson brooks chavez wood james bennett gray mendoza ruiz hughes price alvarez castillo sanders patel myers long "
    "ross foster jimenez powell jenkins perry russell sullivan bell coleman butler henderson barnes fisher vasquez "
    "simmons graham murray ford castro stone hawkins dunn pierce hudson spencer gardner payne grant wagner hunter"
).split()
CITIES = (
    "new york|los angeles|chicago|houston|phoenix|philadelphia|san antonio|san diego|dallas|austin|jacksonville|"
    "columbus|charlotte|indianapolis|seattle|denver|boston|nashville|detroit|portland|memphis|las vegas|louisville|"
    "baltimore|milwaukee|albuquerque|tucson|fresno|sacramento|kansas city|atlanta|omaha|miami|oakland|minneapolis|"
    "tampa|new orleans|cleveland|honolulu|anaheim|saint louis|pittsburgh|cincinnati|anchorage|toledo|newark|orlando|"
    "buffalo|madison|reno|richmond|boise|spokane|london|manchester|dublin|edinburgh|glasgow|paris|berlin|madrid|rome|"
    "toronto|vancouver|montreal|sydney|melbourne|tokyo|singapore|mumbai|dubai|mexico city|amsterdam|vienna|brussels"
).split("|")
STREETS = (
    "main street|oak avenue|maple drive|park road|cedar lane|washington boulevard|lake view drive|second street|"
    "hill road|pine street|church street|elm street|river road|sunset boulevard|lincoln avenue|forest lane|"
    "highland avenue|jefferson street|garden court|spring street|meadow lane|college avenue|mill road|king street"
).split("|")
COMPANIES = (
    "northern lights energy|blue river bank|city water service|green valley insurance|sunrise telecom|first national "
    "credit union|global parcel service|quick ship|summit health|silver lake clinic|metro cable|star wireless|apex "
    "travel|golden gate airlines|home comfort heating|super awesome company|pacific power|family dental care|"
    "evergreen hotels|liberty mutual loans|bright internet|atlas car rental|happy pets|oak tree furniture|digital "
    "world|the phone company|central hospital|union gas|modern kitchens|freedom mobile"
).split("|")
DEPARTMENTS = (
    "sales|support|technical support|customer service|billing|accounting|the operator|the front desk|human resources|"
    "shipping|returns|claims|new accounts|the company directory|reservations|repairs|the warehouse|marketing|the fraud "
    "department|collections|retention|emergency service|the pharmacy|scheduling|an agent|a supervisor|the help desk"
).split("|")
PRODUCTS = (
    "router|modem|phone|laptop|tablet|printer|television|washing machine|dishwasher|refrigerator|headset|camera|"
    "keyboard|monitor|battery|charger|cable box|remote control|thermostat|water heater|furnace|vacuum cleaner|coffee "
    "machine|microwave|bicycle|jacket|pair of shoes|mattress|sofa|desk|watch|speaker|software|gift card|sim card|"
    "medication|prescription|insurance card|package|alarm system|smart lock|ladder|lawn mower|toaster|blender"
).split("|")
SERVICES = (
    "subscription|internet service|phone service|insurance|membership|cable plan|appointment|contract|account|order|"
    "reservation|loan application|newsletter|credit card|mobile plan|warranty"
).split("|")
DOMAINS = "example mail webmail office company homenet fastmail postbox".split()
MONTHS = ("january february march april may june july august september october november december").split()
WEEKDAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
LETTERS = list("abcdefghijklmnopqrstuvwxyz")
PHONETIC = (
    "alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa quebec romeo "
    "sierra tango uniform victor whiskey xray yankee zulu niner"
).split()
IVR_ACTIONS = (
    "hear your messages|hear the next message|repeat this message|play the previous message|delete this message|save "
    "this message|forward this message to another user|send a reply|leave a message|record your name|record your "
    "greeting|erase your greeting|change your password|change folders|accept this recording|listen to it|call this "
    "number|place an outgoing call|enter a different number|mute or unmute yourself|lock or unlock the conference|"
    "increase the volume|decrease the volume|leave the conference|eject the last user|return to the conference|list "
    "the users in the conference|accept the call|reject the call|send this caller to voicemail|return to the main "
    "menu|hear these options again|speak with an operator|use the directory|pay your bill|check your balance|report a "
    "lost card|change your address|make an appointment|track your order|hear our opening hours|cancel|exit|continue|"
    "mark this message as urgent|hear the message envelope|add another recipient|save it to a folder|go back|reset "
    "your volume|toggle pause|start over|remove a participant|extend the conference|quit voicemail|get help|hear more "
    "entries|enter an extension|disconnect|try again|confirm|start recording|stop recording"
).split("|")
PBX_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion first "
    "second third fourth fifth sixth seventh eighth ninth tenth hundredth thousandth millionth billionth dollars cents "
    "percent hours minutes seconds days weeks today tomorrow yesterday monday tuesday wednesday thursday friday "
    "saturday sunday january february march april may june july august september october november december am pm at oh "
    "o'clock minus plus equals dash dot slash star pound space comma colon semicolon quote asterisk ampersand period "
    "underscore hash zed press dial please enter for to from with and or is your you the extension number location "
    "activated enabled disabled added removed cancelled goodbye hello welcome sorry yes no new old work family friends "
    "urgent message messages mailbox password voicemail conference channel agent console transfer hold calling waiting "
    "busy answer answered unavailable invalid login uppercase lowercase playback pause volume menu option folder second"
).split()
PBX_NOUNS = (
    "call|caller|number|extension|message|messages|mailbox|mailboxes|voicemail|password|pin|greeting|name|recording|"
    "conference|conferences|line|lines|operator|agent|user|users|participant|participants|leader|administrator|"
    "directory|entry|entries|folder|menu|option|options|key|tone|beep|dial tone|volume|system|phone|telephone|station|"
    "account|access code|authorization code|queue|channel|circuit|feature|service|party|list|speed dial|call "
    "forwarding|call waiting|wake up call|caller id|home|desk|office|reminder|time|date|temporary greeting|"
    "representative|recipient|sender|search|language|balance|connection|network|server|test|transfer|busy message|"
    "telephone number|call record|blacklist|parking lot|intercom|page|status|setting|request|response|weather|"
    "temperature|telemarketer|weasels|monkeys|power|water|door|fire|security|zone|hour|minute|moment|day|week"
).split("|")
PBX_VERBS = (
    "call|dial|press|enter|hear|play|record|erase|delete|save|send|forward|transfer|hold|leave|join|lock|unlock|mute|"
    "unmute|add|remove|change|check|cancel|accept|reject|answer|connect|disconnect|hang up|return to|repeat|review|"
    "select|choose|confirm|verify|access|activate|enable|disable|restart|reset|skip|stop|start|pause|resume|rewind|"
    "fast forward|schedule|set|report|locate|find|reach|speak to|talk to|listen to|reply to|wait for|try|use|update"
).split("|")
PBX_STATES = (
    "available|unavailable|busy|full|empty|invalid|valid|locked|unlocked|muted|unmuted|recorded|saved|deleted|changed|"
    "active|inactive|activated|deactivated|enabled|disabled|on the phone|off the hook|answered|connected|disconnected|"
    "transferred|cancelled|closed|open|ended|starting|waiting|in use|out of service|set|reset|urgent|new|too short|too "
    "long|not found|not set|already logged on|logged off|removed|added|blocked|allowed|required|correct|incorrect"
).split("|")
