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
    "alice carl julia harold grace arthur judy priya ahmed wei olga fatima carlos ravi yuki ingrid omar abigail "
    "abraham ada adele adrian agnes aidan aisha alan albert alejandro alex alexandra alexis alfred ali alicia alina "
    "alison allison alma alvin amber amelia amir amos ana anastasia andre andy angelica angelo anita anne annette "
    "annie anton antonio april ariana arjun arlene armando arnold arya asha ashton astrid audrey august aurora ava "
    "avery barry beatrice becky bella ben benny bernard bernice beth bethany betsy bill billy blake bob bonnie brad "
    "bradley brandy brent brett bridget bruce bruno bryan byron caitlin caleb calvin camila candice carla carlton "
    "carmen caroline carrie casey cassandra cecil cecilia celeste celia cesar chad chandra charlene charlie "
    "charlotte chase chelsea chen chester chloe chris christa christie claire clara clarence claude claudia clayton "
    "clifford clint clyde cody colin colleen connie connor constance cora corey courtney craig crystal curtis daisy "
    "dale damian dan dana danielle danny daphne darius darlene darren dave dawn dean deanna debra deepak delia derek "
    "desmond devin diego dimitri dolores dominic don dora doris dorothy doug douglas duane dustin dwayne dylan earl "
    "eddie edgar edith edmund eduardo edwin eileen elaine elena eli elias elijah elisa eliza ella ellen elliot elsa "
    "elsie elvira emil emilia emmanuel enrique erica erik erin ernest ernesto esther ethel eugene eva evan eve faith "
    "farah faye felicia felix fernando fiona florence floyd frances francesca francis francisco franklin fred freda "
    "freddie frederick gabriel gabriela gail garrett gavin gene geoffrey georgia geraldine gilbert gina giovanni "
    "gladys glen glenda glenn gordon graham greg greta guadalupe gus guy gwen haley hamza hank hans harriet harry "
    "haruto harvey hassan hazel hector heidi helena herbert herman hilda holly homer hope howard hugh hugo hunter "
    "ian ibrahim ida ignacio imani indira ines irene iris irma isaac isabel isabella ismael ivan ivy jackie jade "
    "jaime jake jamal jamie jan jane janelle jared jasmine javier jay jean jeanette jeff jenna jenny jeremiah jerome "
    "jesse jill jim jimmy jo joanna joanne jocelyn jodi joel joey johanna johnny jon jonas jordan jorge josephine "
    "josh joy juan juanita juliana juliet june karim karina karl kate kathryn kathy katie katrina kayla keisha "
    "kelvin ken kendra kenji kerry kim kirk kristen kristina kurt kwame lamar lance lara lars latoya laurel lauren "
    "laurie lawrence leah lee leila lena leo leon leona leonard leroy leslie lester leticia levi lewis liam lillian "
    "lily lin linus lionel lloyd logan lois lola lorenzo loretta lori lorraine louis louise lucas lucia lucille lucy "
    "luis luke luther lydia lyle lynn mabel mac mackenzie maggie malcolm malik mandy manuel marc marcella marcia "
    "marco marcos marcus margarita marge marian marianne marie marilyn mario marion marisol marjorie marlene marsha "
    "marshall marvin mathew matilda matt maureen maurice max maxine maya mei melanie melinda melody melvin mercedes "
    "mia micah miguel mike mildred miles milton mina mindy minh miranda miriam mitchell mohammed moira molly mona "
    "monica morgan moses muhammad muriel myra myrtle nadia nadine naomi natalia natalie natasha nathaniel neal neil "
    "nell nelson nikhil nina nora norma norman octavia olaf oliver olivia opal oscar otto owen paige pablo pam paolo "
    "parker pat patsy paula paulina pauline pearl pedro peggy penelope penny percy perry phil philip phoebe phyllis "
    "pierre polly preston quentin quinn rafael rajesh ralph ramon randall randy raquel raul ray rebekah regina "
    "reginald rene renee rex reza rhonda ricardo rick ricky riley rita rob robbie roberta roberto robin rochelle "
    "rodney rodrigo roland roman ron rosa rosalie rosalind rosario rose rosemary roxanne roy ruben ruby rudy rufus "
    "russell ruth sabrina sadie saeed sally salvador sam sanjay santiago saul savannah selena serena sergio seth "
    "shane shannon shaun shawn sheila shelby sheldon shelly sherry shirin sidney silvia simon simone sofia sonia "
    "sophia sophie spencer stacy stan stanley stella steve stuart sue sunita suzanne sven sybil sydney sylvia "
    "tabitha takeshi tamara tammy tanya tara tasha ted tessa thelma theo theodore theresa tiffany tim tina toby todd "
    "tom tommy toni tony tracy travis trevor tricia trina troy uma ursula valerie vanessa vera vernon veronica vicki "
    "vicky vincent viola violet virgil virginia vivian wade wallace wanda warren wayne wendy wesley whitney wilbur "
    "wilhelmina willa willie wilma winifred winston wyatt xavier yasmin yolanda yvette yvonne zainab zane zelda zoe "
    "zora"
).split()
LAST = (
    "smith johnson williams brown jones garcia miller davis rodriguez martinez hernandez lopez gonzalez wilson "
    "anderson thomas taylor moore jackson martin lee perez thompson white harris sanchez clark ramirez lewis "
    "robinson walker young allen king wright scott torres nguyen hill flores green adams nelson baker hall rivera "
    "campbell mitchell carter roberts gomez phillips evans turner diaz parker cruz edwards collins reyes stewart "
    "morris morales murphy cook rogers gutierrez ortiz morgan cooper peterson bailey reed kelly howard ramos kim cox "
    "ward richardson watson brooks chavez wood james bennett gray mendoza ruiz hughes price alvarez castillo sanders "
    "patel myers long ross foster jimenez powell jenkins perry russell sullivan bell coleman butler henderson barnes "
    "fisher vasquez simmons graham murray ford castro stone hawkins dunn pierce hudson spencer gardner payne grant "
    "wagner hunter abbott acosta adkins aguilar ahmed albert alexander alford ali allison alonso alston andrade "
    "andrews anthony archer armstrong arnold arroyo ashworth atkins atkinson austin avery ayala baldwin ball banks "
    "barber barker barlow barnett barr barrera barrett barron barry barton bass bates bauer beach beard beasley beck "
    "becker benson bentley berg berger bernard berry best bird bishop black blackburn blackwell blair blake "
    "blanchard bolton bond booker boone booth bowen bowers bowman boyd boyle bradford bradley bradshaw brady branch "
    "brennan brewer bridges briggs britt brock bruce bryan bryant buchanan buck buckley burgess burke burnett burns "
    "burton bush byrd byrne cabrera cain caldwell callahan calderon calhoun cameron cannon cantu carey carlson "
    "carney carpenter carr carrillo carroll carson case cash cervantes chambers chan chandler chang chapman charles "
    "chase chen cherry chester christensen christian church clay clayton clements cline cobb cochran cohen cole "
    "collier combs compton conley connolly conner conrad contreras conway copeland cortez costa cote craft craig "
    "crane crawford crosby cross cummings cunningham curry curtis dalton daniel daniels daugherty davenport david "
    "davidson dawson day dean decker delacruz delaney deleon delgado dennis desai dickerson dickson dillard dixon "
    "dodson dominguez donaldson donovan dorsey dotson dougherty douglas downs doyle drake duarte dudley duffy duke "
    "duncan duran durham dyer eaton elliott ellis ellison emerson english erickson espinoza estes estrada everett "
    "ewing farley farmer farrell faulkner ferguson fernandez ferrell fields figueroa finch finley fischer fitzgerald "
    "fitzpatrick fleming fletcher flynn foley forbes fowler fox francis franco frank franklin frazier frederick "
    "freeman french friedman frost fry frye fuentes fuller gallagher gallegos galloway gamble garner garrett "
    "garrison garza gates gentry george gibbs gibson gilbert giles gill gillespie gilliam gilmore glass glenn glover "
    "golden goldstein goodman goodwin gordon gould greene greer gregory griffin griffith grimes gross guerra "
    "guerrero guthrie guy guzman hahn hale haley hamilton hammond hampton hancock hansen hanson hardin harding hardy "
    "harmon harper harrell harrington harrison hart hartman harvey hatfield hayden hayes haynes heath hebert "
    "hendricks hendrix henry hensley henson herman herrera herring hess hester hewitt hickman hicks higgins hinton "
    "ho hobbs hodge hodges hoffman hogan holcomb holden holder holland holloway holman holmes holt hood hooper "
    "hoover hopkins hopper horn horne horton house houston hubbard huber huff huffman hull humphrey hunt hurley "
    "hurst hutchinson hyde ibarra ingram irwin jacobs jacobson jarvis jefferson jennings jensen joseph joyce juarez "
    "kane kaufman keith keller kemp kennedy kent kerr khan kidd kinney kirby kirk kirkland klein kline knapp knight "
    "knowles knox koch kowalski kramer lamb lambert lancaster landry lane lang langley lara larsen larson lawrence "
    "lawson le leach leblanc leon leonard lester levine levy lindsay lindsey little livingston lloyd logan love lowe "
    "lowery lucas lucero lynch lynn lyons macdonald macias mack madden maddox maldonado malone mann manning marks "
    "marquez marsh marshall mason massey mathews mathis matthews maxwell may mayer maynard mayo mcbride mccall "
    "mccarthy mccarty mcclain mcclure mcconnell mccormick mccoy mccullough mcdaniel mcdonald mcdowell mcfarland "
    "mcgee mcgrath mcguire mcintosh mcintyre mckay mckee mckenzie mckinney mcknight mclaughlin mclean mcleod mcmahon "
    "mcmillan mcneil mcpherson meadows medina mejia melendez melton mercado mercer merrill merritt meyer meyers "
    "michael middleton miles mills miranda molina monroe montgomery montoya moody moon mooney moran moreno morrison "
    "morrow morse morton moses moss moyer mueller mullen mullins munoz murillo nash navarro neal newman newton "
    "nichols nicholson nielsen nixon noble nolan norman norris norton novak nunez o'brien o'connor odom o'donnell "
    "okafor o'neal o'neill orr ortega osborn osborne owen owens pace pacheco padilla page palmer parks parrish parsons "
    "patrick patterson patton paul pearson peck pennington perkins peters petersen petty phelps pittman pitts "
    "pollard pollock poole pope porter potter powers pratt preston prince proctor pruitt puckett pugh quinn ramsey "
    "randall randolph rasmussen ray raymond reeves reid reilly reyna reynolds rhodes rice rich richard richards "
    "richmond riddle riggs riley rios ritter rivas rivers roach robbins roberson robertson robles rocha rodgers "
    "rojas rollins roman romero rosa rosales rosario rose roth rowe rowland roy rubio rush russo ryan salas salazar "
    "salinas sampson samuel sandoval santana santiago santos sargent saunders savage sawyer schaefer schmidt "
    "schneider schroeder schultz schwartz sears sellers serrano sexton shaffer shah shannon sharp sharpe shaw "
    "shelton shepard shepherd sheppard sherman shields short silva simon simpson sims singh singleton skinner sloan "
    "small snider snow snyder solis solomon sosa soto sparks spears stafford stanley stanton stark steele stein "
    "stephens stephenson stevens stevenson stokes stout strickland strong stuart suarez summers sutton swanson "
    "sweeney sweet sykes talley tanaka tanner tate terrell terry thornton tillman todd tran travis trevino trujillo "
    "tucker tyler tyson underwood valdez valencia valentine valenzuela vance vang vargas vaughan vaughn vazquez vega "
    "velasquez velez villa villarreal vincent wade walls walsh walter walters walton wang ware warner warren "
    "washington waters watkins watts weaver webb weber webster weeks weiss welch wells west wheeler whitaker "
    "whitehead whitfield whitley whitney wiggins wilcox wilder wiley wilkerson wilkins wilkinson william williamson "
    "willis winters wise witt wolf wolfe wong woodard woods woodward workman wu wyatt yamamoto yang yates yoder york "
    "yu zamora zhang zimmerman"
).split()
CITIES = (
    "new york|los angeles|chicago|houston|phoenix|philadelphia|san antonio|san diego|dallas|austin|jacksonville|"
    "columbus|charlotte|indianapolis|seattle|denver|boston|nashville|detroit|portland|memphis|las vegas|louisville|"
    "baltimore|milwaukee|albuquerque|tucson|fresno|sacramento|kansas city|atlanta|omaha|miami|oakland|minneapolis|"
    "tampa|new orleans|cleveland|honolulu|anaheim|saint louis|pittsburgh|cincinnati|anchorage|toledo|newark|orlando|"
    "buffalo|madison|reno|richmond|boise|spokane|london|manchester|dublin|edinburgh|glasgow|paris|berlin|madrid|rome|"
    "toronto|vancouver|montreal|sydney|melbourne|tokyo|singapore|mumbai|dubai|mexico city|amsterdam|vienna|brussels|"
    "abilene|akron|albany|alexandria|allentown|amarillo|ann arbor|appleton|arlington|asheville|athens|augusta|aurora|"
    "bakersfield|bangor|baton rouge|beaumont|bellevue|bellingham|berkeley|billings|biloxi|birmingham|bismarck|"
    "bloomington|boulder|bowling green|bridgeport|bristol|brookfield|brownsville|burlington|canton|cape coral|carson "
    "city|casper|cedar rapids|champaign|chandler|charleston|chattanooga|chesapeake|cheyenne|clearwater|colorado "
    "springs|concord|corpus christi|dayton|daytona beach|decatur|des moines|dover|duluth|durham|el paso|elgin|erie|"
    "eugene|evansville|fairfax|fargo|fayetteville|flagstaff|flint|fort collins|fort lauderdale|fort myers|fort wayne|"
    "fort worth|frankfort|fremont|gainesville|galveston|garland|glendale|grand rapids|great falls|green bay|"
    "greensboro|greenville|gulfport|hampton|harrisburg|hartford|helena|henderson|hialeah|hollywood|huntsville|"
    "independence|iowa city|irvine|ithaca|jackson|jefferson city|jersey city|johnson city|joliet|juneau|kalamazoo|"
    "kenosha|key west|killeen|knoxville|la crosse|lafayette|lakeland|lakewood|lancaster|lansing|laredo|lawrence|"
    "lexington|lincoln|little rock|long beach|longview|lowell|lubbock|lynchburg|macon|manhattan|medford|mesa|midland|"
    "mobile|modesto|monroe|montgomery|muncie|napa|naperville|naples|new haven|newport|norfolk|norman|north bend|"
    "ogden|oklahoma city|olympia|oshkosh|overland park|oxford|palm springs|pasadena|pensacola|peoria|plano|pocatello|"
    "portsmouth|princeton|providence|provo|pueblo|racine|raleigh|rapid city|redding|riverside|roanoke|rochester|"
    "rockford|saginaw|salem|salina|salinas|salt lake city|san bernardino|san francisco|san jose|santa ana|santa "
    "barbara|santa cruz|santa fe|sarasota|savannah|scottsdale|scranton|shreveport|sioux city|sioux falls|south bend|"
    "springfield|stamford|stockton|syracuse|tacoma|tallahassee|tempe|terre haute|topeka|trenton|tulsa|tuscaloosa|"
    "tyler|utica|ventura|virginia beach|waco|warwick|waterbury|waterloo|west palm beach|wichita|wilmington|winston "
    "salem|worcester|yonkers|york|youngstown|yuma|aberdeen|bath|belfast|brighton|cambridge|cardiff|coventry|derby|"
    "exeter|hull|leeds|leicester|liverpool|nottingham|plymouth|preston|reading|sheffield|southampton|swansea|bangkok|"
    "barcelona|beijing|bogota|budapest|buenos aires|cairo|cape town|copenhagen|delhi|florence|frankfurt|geneva|"
    "hamburg|hanoi|helsinki|hong kong|istanbul|jakarta|jerusalem|johannesburg|lagos|lima|lisbon|lyon|manila|"
    "marseille|milan|moscow|munich|nairobi|oslo|osaka|prague|quito|rio de janeiro|rotterdam|santiago|sao paulo|seoul|"
    "shanghai|stockholm|taipei|tel aviv|venice|warsaw|zurich|calgary|edmonton|halifax|ottawa|quebec city|victoria|"
    "winnipeg|adelaide|auckland|brisbane|perth|wellington"
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
    "shipping|returns|claims|new accounts|the company directory|reservations|repairs|the warehouse|marketing|the "
    "fraud department|collections|retention|emergency service|the pharmacy|scheduling|an agent|a supervisor|the help "
    "desk|the parts department|the lost and found|the mail room|the board of directors|the chief financial officer|"
    "customer relations|the payroll office|legal|quality control|the night desk|the service desk|the bookings team|"
    "the complaints team|the accident department|collections and recovery|the mortgage team|the kitchen|student "
    "services|the registrar|admissions|patient records|the laboratory|radiology|the maternity ward|cardiology|the "
    "nurse on duty|the principal's office|the box office|the travel desk|the loyalty team|outside sales|engineering|"
    "purchasing|dispatch|roadside help|the permit office|the tax office|public works|parking enforcement|animal "
    "control|the water department|the records office|the press office|facilities"
).split("|")
PRODUCTS = (
    "router|modem|phone|laptop|tablet|printer|television|washing machine|dishwasher|refrigerator|headset|camera|"
    "keyboard|monitor|battery|charger|cable box|remote control|thermostat|water heater|furnace|vacuum cleaner|coffee "
    "machine|microwave|bicycle|jacket|pair of shoes|mattress|sofa|desk|watch|speaker|software|gift card|sim card|"
    "medication|prescription|insurance card|package|alarm system|smart lock|ladder|lawn mower|toaster|blender|air "
    "conditioner|air fryer|baby monitor|barbecue grill|blood pressure monitor|bookcase|carpet cleaner|ceiling fan|"
    "chainsaw|clothes dryer|computer mouse|credit card reader|dash camera|desk lamp|digital camera|docking station|"
    "doorbell camera|drone|electric blanket|electric kettle|electric scooter|electric toothbrush|espresso machine|"
    "exercise bike|fax machine|fitness tracker|food processor|freezer|game console|garage door opener|garden hose|"
    "gas stove|generator|hair dryer|hearing aid|hedge trimmer|hot tub|humidifier|ice maker|iron|juicer|karaoke "
    "machine|label printer|leaf blower|memory card|mixer|music system|navigation system|office chair|oven|phone case|"
    "power bank|pressure washer|projector|radio|rice cooker|robot vacuum|rowing machine|scanner|sewing machine|"
    "shower head|smart watch|smoke detector|snow blower|space heater|steam cleaner|tool set|tractor|treadmill|"
    "typewriter|video doorbell|water filter|wheelchair|wireless charger|wireless headphones"
).split("|")
SERVICES = (
    "subscription|internet service|phone service|insurance|membership|cable plan|appointment|contract|account|order|"
    "reservation|loan application|newsletter|credit card|mobile plan|warranty|alarm service|auto insurance|booking|"
    "business account|checking account|cleaning service|delivery|electricity contract|email account|fitness "
    "membership|gas service|health plan|home insurance|home warranty|insurance policy|landline|lawn service|lease|"
    "magazine subscription|maintenance plan|meal plan|mortgage|parking permit|pension|pest control|phone contract|"
    "prescription|rental agreement|repair request|roadside assistance|savings account|security system|service call|"
    "storage unit|streaming service|television package|trash pickup|travel booking|tuition payment|water service|"
    "wire transfer"
).split("|")
DOMAINS = (
    "example mail webmail office company homenet fastmail postbox inbox mailbox quickmail letterbox studio workshop "
    "family school campus hospital clinic garden market trading design consulting lawfirm citynet bluesky mountain "
    "riverside"
).split()
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
STREET_NAMES = (
    "adams|airport|alder|arbor|arlington|ash|aspen|baker|bay|bayview|beach|bedford|beech|belmont|birch|bluff|bond|"
    "bridge|broad|brookside|cambridge|canal|canyon|carlton|castle|cherry|chestnut|circle|clay|clearwater|cleveland|"
    "cliff|clinton|clover|commerce|concord|cottonwood|country club|court|creek|crescent|cypress|dale|davis|deer run|"
    "delaware|division|dogwood|eagle|east|edgewood|eighth|elmwood|evergreen|fairview|farm|fifth|first|fourth|"
    "franklin|front|fulton|george|glen|glenwood|grand|grant|green|grove|hamilton|harbor|harrison|hawthorne|hazel|"
    "hickory|high|hillcrest|hillside|holly|hudson|indian trail|industrial|jackson|james|john|juniper|laurel|lawrence|"
    "liberty|lilac|linden|locust|long|magnolia|maiden|maple grove|market|marshall|martin luther king|michigan|"
    "mission|monroe|morningside|mountain view|mulberry|myrtle|ninth|north|oakland|ocean|old mill|orange|orchard|"
    "oxford|palm|parkway|pearl|penn|pleasant|plum|poplar|primrose|princeton|prospect|quail|queen|railroad|redwood|"
    "ridge|riverside|rose|sandy|school|seventh|shady|shore|sixth|south|spruce|stanton|state|station|stone|summit|"
    "sycamore|tenth|third|tulip|twelfth|union|university|valley|vernon|victoria|village|vine|virginia|walnut|warren|"
    "water|waverly|west|whispering pines|white oak|willow|wilson|winding|windsor|woodland|york"
).split("|")
STREET_KINDS = (
    "street|street|street|avenue|avenue|road|road|drive|drive|lane|lane|court|boulevard|way|place|circle|terrace|"
    "trail|parkway"
).split("|")
STATES = (
    "alabama|alaska|arizona|arkansas|california|colorado|connecticut|delaware|florida|georgia|hawaii|idaho|illinois|"
    "indiana|iowa|kansas|kentucky|louisiana|maine|maryland|massachusetts|michigan|minnesota|mississippi|missouri|"
    "montana|nebraska|nevada|new hampshire|new jersey|new mexico|new york|north carolina|north dakota|ohio|oklahoma|"
    "oregon|pennsylvania|rhode island|south carolina|south dakota|tennessee|texas|utah|vermont|virginia|washington|"
    "west virginia|wisconsin|wyoming"
).split("|")
COUNTRIES = (
    "argentina|australia|austria|bangladesh|belgium|bolivia|brazil|canada|chile|china|colombia|costa rica|croatia|"
    "cuba|denmark|egypt|england|ethiopia|finland|france|germany|ghana|greece|guatemala|hungary|iceland|india|"
    "indonesia|ireland|israel|italy|jamaica|japan|jordan|kenya|korea|malaysia|mexico|morocco|nepal|new zealand|"
    "nigeria|norway|pakistan|panama|peru|poland|portugal|romania|scotland|senegal|singapore|south africa|spain|"
    "sweden|switzerland|taiwan|thailand|tunisia|turkey|ukraine|vietnam|wales|the netherlands|the philippines|the "
    "czech republic|the united kingdom"
).split("|")
LANGUAGES = (
    "arabic|cantonese|chinese|dutch|english|french|german|greek|hebrew|hindi|italian|japanese|korean|mandarin|polish|"
    "portuguese|russian|spanish|swahili|swedish|tagalog|turkish|ukrainian|urdu|vietnamese"
).split("|")
CURRENCIES = (
    "euros|pounds|yen|pesos|francs|rupees|crowns|australian dollars|canadian dollars|mexican pesos|british pounds|"
    "swiss francs"
).split("|")
ITEMS = (
    "umbrella|wallet|jacket|sweater|raincoat|scarf|hat|cap|belt|backpack|purse|handbag|suitcase|blanket|pillow|dress|"
    "skirt|shirt|blouse|coat|suit|tie|necklace|ring|bracelet|watch|notebook|pencil case|lamp|rug|curtain|towel|"
    "bathrobe|teapot|frying pan|mug|vase|mirror|bookshelf|nightstand|chair|stool|armchair|crib|stroller|car seat|"
    "tent|sleeping bag|helmet|tennis racket|basketball|soccer ball|guitar|violin|puzzle|board game|doll|train set|"
    "kite|picture frame|candle|hammer|drill|saw|wrench|toolbox|flashlight|extension cord|hair dryer|razor|toothbrush|"
    "hairbrush|swimsuit|pair of gloves|pair of jeans|pair of boots|pair of sandals|hoodie|vest|uniform|apron|"
    "passport case|key ring|lunch box|water bottle|cooler|garden hose|rake|shovel"
).split("|")
COLOURS = (
    "red|blue|green|yellow|orange|purple|pink|brown|black|white|gray|silver|gold|beige|navy blue|dark green|light "
    "blue|turquoise|maroon|tan"
).split("|")
SIZES = (
    "small|medium|large|extra large|size six|size eight|size ten|size twelve|size nine and a half|size forty two|"
    "petite|double extra large"
).split("|")
PLACES = (
    "bakery|bank|barber shop|bus station|cafe|church|cinema|city hall|clinic|coffee shop|community center|courthouse|"
    "dentist|dry cleaner|elementary school|embassy|factory|farm|fire station|flower shop|football stadium|gas "
    "station|golf course|grocery store|gym|hardware store|high school|hospital|hotel|ice rink|laundromat|library|"
    "mall|mosque|museum|nursing home|parking garage|park|pet store|pharmacy|playground|police station|post office|"
    "school|shoe store|shopping center|subway station|supermarket|swimming pool|synagogue|temple|theater|tool shop|"
    "town hall|train station|university|warehouse|water tower|zoo"
).split("|")
ANIMALS = (
    "dog|cat|rabbit|parrot|hamster|turtle|horse|pony|goat|pig|cow|chicken|duck|donkey|llama|lizard|snake|ferret|"
    "beagle|poodle|kitten"
).split("|")
RELATIVES = (
    "mother|father|mom|dad|sister|brother|son|daughter|wife|husband|grandmother|grandfather|aunt|uncle|cousin|niece|"
    "nephew|roommate|neighbor|partner|fiance|mother in law|brother in law|stepson|stepdaughter|grandson|"
    "granddaughter|twin brother|older sister|youngest son"
).split("|")
JOBS = (
    "teacher|nurse|plumber|electrician|carpenter|driver|truck driver|cook|waiter|cashier|accountant|lawyer|engineer|"
    "mechanic|painter|farmer|journalist|photographer|librarian|receptionist|secretary|salesman|manager|programmer|"
    "analyst|welder|pilot|flight attendant|soldier|police officer|firefighter|paramedic|dentist|pharmacist|physical "
    "therapist|veterinarian|social worker|translator|gardener|janitor|security guard|baker|butcher|hairdresser|"
    "tailor|architect|biologist|chemist|bookkeeper|warehouse worker|forklift operator|bus driver|dispatcher|"
    "kindergarten teacher|dancer"
).split("|")
VEHICLES = (
    "sedan|pickup truck|minivan|van|station wagon|convertible|motorcycle|scooter|truck|jeep|hatchback|sports car|"
    "electric car|hybrid|camper|moving van|tow truck|compact car|limousine|motor home"
).split("|")
FOODS = (
    "apples|bananas|bread|rice|pasta|cheese|yogurt|butter|eggs|milk|cereal|oatmeal|chicken|beef|salmon|tuna|shrimp|"
    "tofu|beans|lentils|potatoes|carrots|onions|garlic|spinach|lettuce|tomatoes|cucumbers|peppers|mushrooms|corn|"
    "broccoli|strawberries|blueberries|peaches|grapes|oranges|lemons|cherries|pumpkins|honey|sugar|flour|olive oil|"
    "peanut butter|chocolate|cookies|popcorn|walnuts|almonds|raisins|pancakes|soup|salad|coffee|tea"
).split("|")
DISHES = (
    "cheeseburger|pepperoni pizza|chicken curry|vegetable soup|noodle soup|beef stew|fish tacos|lasagna|spaghetti|"
    "meatloaf|mushroom risotto|tuna sandwich|club sandwich|caesar salad|fried rice|pad thai|chicken wings|pork chops|"
    "lamb chops|roast beef|shrimp salad|bean burrito|enchiladas|stuffed peppers|apple pie|cheesecake|fruit salad|"
    "omelet|french toast|clam chowder|veggie burger|turkey wrap|fish and chips|mac and cheese"
).split("|")
DRINKS = (
    "coffee|iced tea|lemonade|orange juice|apple juice|root beer|hot chocolate|sparkling water|ginger ale|green tea|"
    "milkshake|cola|cappuccino|glass of wine|beer|smoothie"
).split("|")
DRUGS = (
    "aspirin|ibuprofen|acetaminophen|amoxicillin|metformin|lisinopril|atorvastatin|insulin|prednisone|albuterol|"
    "omeprazole|losartan|gabapentin|sertraline|levothyroxine|warfarin|penicillin|hydrocodone|melatonin|vitamin d|"
    "cough syrup|iron tablets|antibiotics|eye drops"
).split("|")
SYMPTOMS = (
    "cough|dry cough|headache|migraine|sore throat|fever|rash|stomach ache|toothache|backache|runny nose|stiff neck|"
    "swollen ankle|broken wrist|sprained ankle|nosebleed|burning feeling|chest pain|cramp|bad burn|deep cut|bee "
    "sting|seizure|stroke|fainting spell"
).split("|")
BODY_PARTS = (
    "knee|ankle|shoulder|elbow|wrist|hip|back|neck|foot|hand|finger|thumb|toe|arm|leg|chest|stomach|jaw|ear|eye|nose|"
    "forehead|chin|heel|calf|thigh|rib cage|lower back|left hand|right foot|left knee|right shoulder|tooth|gums|"
    "throat|skin"
).split("|")
DAY_PARTS = ("morning|afternoon|evening|night|late morning|early afternoon|early evening|lunch time").split(
    "|"
)
SEASONS = ("spring|summer|fall|autumn|winter").split("|")
HOLIDAYS = (
    "christmas|christmas eve|new year's day|new year's eve|easter|easter monday|thanksgiving|labor day|memorial day|"
    "independence day|good friday|veterans day|presidents day|the fourth of july|hanukkah|ramadan|diwali|mother's "
    "day|halloween|valentine's day"
).split("|")
APPS = (
    "spreadsheet program|calendar|chat program|mail program|browser|payroll system|ticket system|photo editor|word "
    "processor|time tracker|inventory system|expense tool|training portal|customer database|phone app|backup tool|"
    "meeting software|drawing program|report builder"
).split("|")
ERRORS = (
    "access denied|file not found|connection timed out|server not responding|invalid certificate|disk full|session "
    "expired|permission denied|network unreachable|out of memory|unknown user|page not found|sync failed|printer "
    "offline|wrong password|device not recognized|update failed"
).split("|")
PARTS = (
    "belt|filter|fuse|hinge|motor|pump|gasket|hose|fan|switch|power supply|circuit board|door handle|thermostat|"
    "heating element|bearing|spring|drain valve|control panel|display|battery cover|cable|seal|knob|wheel|blade|bulb|"
    "cartridge|sensor|spark plug"
).split("|")
HOTELS = (
    "grand hotel|river inn|park plaza|harbor house|sunset lodge|garden suites|mountain view resort|airport inn|royal "
    "palace|lakeside hotel|old mill inn|seaside motel|golden lion|blue dolphin|city center hotel|station hotel|maple "
    "lodge|desert rose|palm court|union square hotel"
).split("|")
FILLERS = ("uh|um|uh|um|er|well|so|like|you know|i mean|hmm|ah|oh|okay so|let's see|actually").split("|")
COMPANY_FIRST = (
    "american|atlantic|azure|bay|big sky|black horse|bright|capital|cedar|central|citizens|clear|coastal|community|"
    "continental|copper|crescent|crown|crystal|delta|diamond|eagle|eastern|elite|emerald|empire|express|fair|falcon|"
    "federal|first|fresh|frontier|garden|general|gold star|granite|great lakes|harbor|heritage|highland|hilltop|"
    "horizon|independent|inland|iron|island|key|keystone|king|lakeside|landmark|liberty|lighthouse|lone star|maple|"
    "mercury|metro|midwest|milestone|mountain|mutual|national|new world|noble|north star|northern|nova|ocean|olympic|"
    "orange|pacific|palm|paramount|peak|phoenix|pilgrim|pine|pioneer|planet|platinum|plaza|prairie|premier|prime|"
    "progress|quality|rainbow|rapid|red rock|regal|reliable|river|rose|royal|safe|sapphire|shamrock|signal|silver|"
    "skyline|smart|snow|solid|southern|spring|standard|sterling|stone|summit|sun|superior|swift|titan|total|tri "
    "state|trinity|true|twin|united|universal|urban|valley|vanguard|victory|vista|west coast|western|white oak|wild|"
    "winter|world|yellow|zenith"
).split("|")
COMPANY_LAST = (
    "airlines|appliance repair|auto glass|auto parts|bakery|bank|bookstore|builders|car wash|catering|clothing|"
    "coffee|college|communications|computers|construction|courier|credit union|dental|electric|electronics|energy|"
    "express|eye care|federal bank|finance|fitness|flooring|flowers|foods|freight|furniture|gas|gas and electric|"
    "grocery|hardware|health plan|heating and cooling|home loans|hospital|hotels|industries|insurance|internet|"
    "investments|jewelry|landscaping|laundry|lending|library|lighting|logistics|medical center|mobile|mortgage|"
    "motors|movers|music|office supplies|outdoors|packaging|paper|pet care|pharmacy|pizza|plumbing|power|printing|"
    "properties|publishing|railways|realty|rentals|restaurant|roofing|savings bank|security|shipping|shoes|software|"
    "solar|sports|storage|systems|taxi|technologies|telephone|tires|tools|toys|travel|university|utilities|vacations|"
    "veterinary clinic|waste services|water|wireless|yoga"
).split("|")
WORDS = (
    "account|album|anchor|apple|arrow|atlas|autumn|bamboo|banner|basket|beacon|bridge|bubble|butter|button|camera|"
    "candle|canyon|carbon|castle|circle|cloud|clover|comet|copper|coral|corner|cotton|crystal|dancer|desert|dragon|"
    "dream|eagle|echo|ember|engine|falcon|feather|fence|field|forest|fountain|galaxy|garden|ginger|glacier|harbor|"
    "hazel|help|hero|honey|island|ivory|jacket|jungle|kettle|ladder|lantern|lemon|lion|login|magnet|maple|marble|"
    "meadow|melody|mirror|monkey|mountain|needle|ocean|olive|orchid|panda|paper|pebble|pepper|piano|pilot|planet|"
    "pocket|prairie|puzzle|rabbit|rainbow|raven|river|rocket|saddle|sail|shadow|shop|signal|silver|spark|spider|"
    "spring|star|stone|storm|sugar|summer|sunset|support|tiger|timber|tower|tulip|turtle|valley|velvet|violet|wagon|"
    "walnut|water|whale|willow|window|winter|wizard|wonder|yellow|zebra"
).split("|")
OPENERS = (
    "okay|well|so|yes|no|right|alright|hi|hello|listen|look|sure|thanks|thank you|sorry|excuse me|actually|yeah|oh|"
    "great|good morning|good afternoon|i see|of course|one moment|just so you know|as i said|to be honest|if i may|"
    "honestly"
).split("|")
CLOSERS = (
    "please|thanks|thank you|right|okay|sir|ma'am|today|i think|you know|if possible|by the way|at the moment|for now|"
    "right now|as well|is that okay|if you don't mind|i'm afraid|just in case|again|i guess|so far"
).split("|")
