# ruff: noqa: E501 (one concept a line)
"""The vocabulary of the demo world: about 230 concepts in English, German, Spanish, French and Welsh.

Compact tables, one concept a line, read once by `load_lexicon`. Columns are separated by `|`, forms by spaces.
Where a form is missing it is derived by the regular rule that the language's module states.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

LANGUAGES = ("en", "de", "es", "fr", "cy")

# English singular plural | German gender singular plural [singular of accusative and dative] | Spanish gender
# singular plural | French gender singular plural | Welsh gender singular plural. A plural of "-" is never used.
_PEOPLE = """
man men | m Mann Männer | m hombre hombres | m homme hommes | m dyn dynion
woman women | f Frau Frauen | f mujer mujeres | f femme femmes | f menyw menywod
child children | n Kind Kinder | m niño niños | m enfant enfants | m plentyn plant
girl girls | n Mädchen Mädchen | f chica chicas | f fille filles | f merch merched
boy boys | m Junge Jungen Jungen | m chico chicos | m garçon garçons | m bachgen bechgyn
mother mothers | f Mutter Mütter | f madre madres | f mère mères | f mam mamau
father fathers | m Vater Väter | m padre padres | m père pères | m tad tadau
brother brothers | m Bruder Brüder | m hermano hermanos | m frère frères | m brawd brodyr
sister sisters | f Schwester Schwestern | f hermana hermanas | f sœur sœurs | f chwaer chwiorydd
friend friends | m Freund Freunde | m amigo amigos | m ami amis | m ffrind ffrindiau
neighbour neighbours | m Nachbar Nachbarn Nachbarn | m vecino vecinos | m voisin voisins | m cymydog cymdogion
doctor doctors | m Arzt Ärzte | m médico médicos | m médecin médecins | m meddyg meddygon
teacher teachers | f Lehrerin Lehrerinnen | f maestra maestras | f maîtresse maîtresses | f athrawes athrawesau
baker bakers | m Bäcker Bäcker | m panadero panaderos | m boulanger boulangers | m pobydd pobyddion
farmer farmers | m Bauer Bauern Bauern | m granjero granjeros | m fermier fermiers | m ffermwr ffermwyr
singer singers | f Sängerin Sängerinnen | f cantante cantantes | f chanteuse chanteuses | f cantores cantoresau
king kings | m König Könige | m rey reyes | m roi rois | m brenin brenhinoedd
queen queens | f Königin Königinnen | f reina reinas | f reine reines | f brenhines breninesau
nurse nurses | f Krankenschwester Krankenschwestern | f enfermera enfermeras | f infirmière infirmières | f nyrs nyrsys
student students | m Student Studenten Studenten | m estudiante estudiantes | m étudiant étudiants | m myfyriwr myfyrwyr
grandmother grandmothers | f Großmutter Großmütter | f abuela abuelas | f grand-mère grands-mères | f nain neiniau
grandfather grandfathers | m Großvater Großväter | m abuelo abuelos | m grand-père grands-pères | m taid teidiau
uncle uncles | m Onkel Onkel | m tío tíos | m oncle oncles | m ewythr ewythredd
aunt aunts | f Tante Tanten | f tía tías | f tante tantes | f modryb modrybedd
waiter waiters | m Kellner Kellner | m camarero camareros | m serveur serveurs | m gweinydd gweinyddion
policeman policemen | m Polizist Polizisten Polizisten | m policía policías | m policier policiers | m plismon plismyn
painter painters | m Maler Maler | m pintor pintores | m peintre peintres | m peintiwr peintwyr
gardener gardeners | m Gärtner Gärtner | m jardinero jardineros | m jardinier jardiniers | m garddwr garddwyr
driver drivers | m Fahrer Fahrer | m conductor conductores | m conducteur conducteurs | m gyrrwr gyrwyr
guest guests | m Gast Gäste | m invitado invitados | m invité invités | m gwestai gwesteion
thief thieves | m Dieb Diebe | m ladrón ladrones | m voleur voleurs | m lleidr lladron
lawyer lawyers | m Anwalt Anwälte | m abogado abogados | m avocat avocats | m cyfreithiwr cyfreithwyr
soldier soldiers | m Soldat Soldaten Soldaten | m soldado soldados | m soldat soldats | m milwr milwyr
"""

_ANIMALS = """
dog dogs | m Hund Hunde | m perro perros | m chien chiens | m ci cŵn
cat cats | f Katze Katzen | m gato gatos | m chat chats | f cath cathod
horse horses | n Pferd Pferde | m caballo caballos | m cheval chevaux | m ceffyl ceffylau
cow cows | f Kuh Kühe | f vaca vacas | f vache vaches | f buwch buchod
bird birds | m Vogel Vögel | m pájaro pájaros | m oiseau oiseaux | m aderyn adar
mouse mice | f Maus Mäuse | m ratón ratones | f souris souris | f llygoden llygod
pig pigs | n Schwein Schweine | m cerdo cerdos | m cochon cochons | m mochyn moch
duck ducks | f Ente Enten | m pato patos | m canard canards | f hwyaden hwyaid
goat goats | f Ziege Ziegen | f cabra cabras | f chèvre chèvres | f gafr geifr
bear bears | m Bär Bären Bären | m oso osos | m ours ours | f arth eirth
rabbit rabbits | n Kaninchen Kaninchen | m conejo conejos | m lapin lapins | f cwningen cwningod
fox foxes | m Fuchs Füchse | m zorro zorros | m renard renards | m llwynog llwynogod
"""

_READABLE = """
book books | n Buch Bücher | m libro libros | m livre livres | m llyfr llyfrau
letter letters | m Brief Briefe | f carta cartas | f lettre lettres | m llythyr llythyrau
story stories | f Geschichte Geschichten | f historia historias | f histoire histoires | f stori storïau
"""

_FOOD = """
apple apples | m Apfel Äpfel | f manzana manzanas | f pomme pommes | m afal afalau
cake cakes | m Kuchen Kuchen | m pastel pasteles | m gâteau gâteaux | f teisen teisennau
egg eggs | n Ei Eier | m huevo huevos | m œuf œufs | m wy wyau
cheese - | m Käse - | m queso - | m fromage - | m caws -
bread - | n Brot - | m pan - | m pain - | m bara -
orange oranges | f Orange Orangen | f naranja naranjas | f orange oranges | m oren orenau
potato potatoes | f Kartoffel Kartoffeln | f patata patatas | f patate patates | f taten tatws
soup - | f Suppe - | f sopa - | f soupe - | m cawl -
"""

_DRINK = """
coffee - | m Kaffee - | m café - | m café - | m coffi -
tea - | m Tee - | m té - | m thé - | m te -
milk - | f Milch - | f leche - | m lait - | m llaeth -
wine - | m Wein - | m vino - | m vin - | m gwin -
beer - | n Bier - | f cerveza - | f bière - | m cwrw -
"""

_THINGS = """
car cars | n Auto Autos | m coche coches | f voiture voitures | m car ceir
bicycle bicycles | n Fahrrad Fahrräder | f bicicleta bicicletas | m vélo vélos | m beic beiciau
table tables | m Tisch Tische | f mesa mesas | f table tables | m bwrdd byrddau
chair chairs | m Stuhl Stühle | f silla sillas | f chaise chaises | f cadair cadeiriau
key keys | m Schlüssel Schlüssel | f llave llaves | f clé clés | f allwedd allweddi
bag bags | f Tasche Taschen | m bolso bolsos | m sac sacs | m bag bagiau
hat hats | m Hut Hüte | m sombrero sombreros | m chapeau chapeaux | f het hetiau
coat coats | m Mantel Mäntel | m abrigo abrigos | m manteau manteaux | f côt cotiau
shoe shoes | m Schuh Schuhe | m zapato zapatos | f chaussure chaussures | f esgid esgidiau
picture pictures | n Bild Bilder | m cuadro cuadros | m tableau tableaux | m llun lluniau
flower flowers | f Blume Blumen | f flor flores | f fleur fleurs | m blodyn blodau
stone stones | m Stein Steine | f piedra piedras | f pierre pierres | f carreg cerrig
knife knives | n Messer Messer | m cuchillo cuchillos | m couteau couteaux | f cyllell cyllyll
cup cups | f Tasse Tassen | f taza tazas | f tasse tasses | m cwpan cwpanau
bottle bottles | f Flasche Flaschen | f botella botellas | f bouteille bouteilles | f potel poteli
phone phones | n Telefon Telefone | m teléfono teléfonos | m téléphone téléphones | m ffôn ffonau
lamp lamps | f Lampe Lampen | f lámpara lámparas | f lampe lampes | f lamp lampau
boat boats | n Boot Boote | m barco barcos | m bateau bateaux | m cwch cychod
box boxes | f Kiste Kisten | f caja cajas | f boîte boîtes | m bocs bocsys
ring rings | m Ring Ringe | m anillo anillos | f bague bagues | f modrwy modrwyau
ball balls | m Ball Bälle | f pelota pelotas | m ballon ballons | f pêl peli
clock clocks | f Uhr Uhren | m reloj relojes | f horloge horloges | m cloc clociau
shirt shirts | n Hemd Hemden | f camisa camisas | f chemise chemises | m crys crysau
plate plates | m Teller Teller | m plato platos | f assiette assiettes | m plât platiau
window windows | n Fenster Fenster | f ventana ventanas | f fenêtre fenêtres | f ffenestr ffenestri
door doors | f Tür Türen | f puerta puertas | f porte portes | m drws drysau
map maps | f Karte Karten | m mapa mapas | f carte cartes | m map mapiau
bed beds | n Bett Betten | f cama camas | m lit lits | m gwely gwelyau
"""

_PLACES = """
garden gardens | m Garten Gärten | m jardín jardines | m jardin jardins | f gardd gerddi
kitchen kitchens | f Küche Küchen | f cocina cocinas | f cuisine cuisines | f cegin ceginau
school schools | f Schule Schulen | f escuela escuelas | f école écoles | f ysgol ysgolion
house houses | n Haus Häuser | f casa casas | f maison maisons | m tŷ tai
city cities | f Stadt Städte | f ciudad ciudades | f ville villes | f dinas dinasoedd
village villages | n Dorf Dörfer | m pueblo pueblos | m village villages | m pentref pentrefi
park parks | m Park Parks | m parque parques | m parc parcs | m parc parciau
forest forests | m Wald Wälder | m bosque bosques | f forêt forêts | f coedwig coedwigoedd
hospital hospitals | n Krankenhaus Krankenhäuser | m hospital hospitales | m hôpital hôpitaux | m ysbyty ysbytai
church churches | f Kirche Kirchen | f iglesia iglesias | f église églises | f eglwys eglwysi
library libraries | f Bibliothek Bibliotheken | f biblioteca bibliotecas | f bibliothèque bibliothèques | f llyfrgell llyfrgelloedd
room rooms | n Zimmer Zimmer | f habitación habitaciones | f chambre chambres | f ystafell ystafelloedd
shop shops | m Laden Läden | f tienda tiendas | m magasin magasins | f siop siopau
office offices | n Büro Büros | f oficina oficinas | m bureau bureaux | f swyddfa swyddfeydd
restaurant restaurants | n Restaurant Restaurants | m restaurante restaurantes | m restaurant restaurants | m bwyty bwytai
hotel hotels | n Hotel Hotels | m hotel hoteles | m hôtel hôtels | m gwesty gwestai
castle castles | n Schloss Schlösser | m castillo castillos | m château châteaux | m castell cestyll
"""

# The same in all five languages.
NAMES = ("Anna", "Maria", "Laura", "Sara", "Eva", "Julia", "David", "Paul", "Thomas", "Peter", "Simon", "Martin")
FEMALE_NAMES = NAMES[:6]

# class | English positive comparative | German positive comparative | Spanish masculine feminine plural-m plural-f [estar]
# | French masculine feminine plural-m plural-f [pre] [before-vowel masculine] | Welsh masculine feminine comparative
# [pre]. Classes, one letter each: p people, n animals, t things, l places. A comparative of "-" is not used.
_ADJECTIVES = """
pntl | big bigger | groß größer | grande grande grandes grandes | grand grande grands grandes pre | mawr mawr mwy
pntl | small smaller | klein kleiner | pequeño pequeña pequeños pequeñas | petit petite petits petites pre | bach bach llai
pntl | old older | alt älter | viejo vieja viejos viejas | vieux vieille vieux vieilles pre vieil | hen hen hŷn pre
tl | new newer | neu neuer | nuevo nueva nuevos nuevas | nouveau nouvelle nouveaux nouvelles pre nouvel | newydd newydd newyddach
pn | young younger | jung jünger | joven joven jóvenes jóvenes | jeune jeune jeunes jeunes pre | ifanc ifanc iau
pt | good - | gut - | bueno buena buenos buenas | bon bonne bons bonnes pre | da da -
pt | bad - | schlecht - | malo mala malos malas | mauvais mauvaise mauvais mauvaises pre | drwg drwg -
pntl | beautiful - | schön - | hermoso hermosa hermosos hermosas | beau belle beaux belles pre bel | hardd hardd -
t | red - | rot - | rojo roja rojos rojas | rouge rouge rouges rouges | coch coch -
t | green - | grün - | verde verde verdes verdes | vert verte verts vertes | gwyrdd gwerdd -
t | blue - | blau - | azul azul azules azules | bleu bleue bleus bleues | glas glas -
nt | white - | weiß - | blanco blanca blancos blancas | blanc blanche blancs blanches | gwyn gwen -
nt | black - | schwarz - | negro negra negros negras | noir noire noirs noires | du du -
t | yellow - | gelb - | amarillo amarilla amarillos amarillas | jaune jaune jaunes jaunes | melyn melen -
nt | brown - | braun - | marrón marrón marrones marrones | brun brune bruns brunes | brown brown -
nt | heavy heavier | schwer schwerer | pesado pesada pesados pesadas | lourd lourde lourds lourdes | trwm trom trymach
pn | strong stronger | stark stärker | fuerte fuerte fuertes fuertes | fort forte forts fortes | cryf cryf cryfach
pn | fast faster | schnell schneller | rápido rápida rápidos rápidas | rapide rapide rapides rapides | cyflym cyflym cyflymach
pn | slow slower | langsam langsamer | lento lenta lentos lentas | lent lente lents lentes | araf araf arafach
p | rich richer | reich reicher | rico rica ricos ricas | riche riche riches riches | cyfoethog cyfoethog cyfoethocach
p | poor poorer | arm ärmer | pobre pobre pobres pobres | pauvre pauvre pauvres pauvres | tlawd tlawd tlotach
tl | clean - | sauber - | limpio limpia limpios limpias estar | propre propre propres propres | glân glân -
tl | dirty - | schmutzig - | sucio sucia sucios sucias estar | sale sale sales sales | brwnt brwnt -
t | expensive - | teuer - | caro cara caros caras | cher chère chers chères | drud drud -
tl | cold colder | kalt kälter | frío fría fríos frías estar | froid froide froids froides | oer oer oerach
tl | warm warmer | warm wärmer | caliente caliente calientes calientes estar | chaud chaude chauds chaudes | cynnes cynnes cynhesach
pn | happy happier | glücklich glücklicher | feliz feliz felices felices estar | heureux heureuse heureux heureuses | hapus hapus hapusach
pn | sad sadder | traurig trauriger | triste triste tristes tristes estar | triste triste tristes tristes | trist trist tristach
pn | ill - | krank - | enfermo enferma enfermos enfermas estar | malade malade malades malades | sâl sâl -
p | famous - | berühmt - | famoso famosa famosos famosas | célèbre célèbre célèbres célèbres | enwog enwog -
pn | clever cleverer | klug klüger | inteligente inteligente inteligentes inteligentes | intelligent intelligente intelligents intelligentes | clyfar clyfar clyfrach
pn | quiet quieter | ruhig ruhiger | tranquilo tranquila tranquilos tranquilas | calme calme calmes calmes | tawel tawel tawelach
pn | brave braver | mutig mutiger | valiente valiente valientes valientes | courageux courageuse courageux courageuses | dewr dewr dewrach
t | round - | rund - | redondo redonda redondos redondas | rond ronde ronds rondes | crwn cron -
t | long longer | lang länger | largo larga largos largas | long longue longs longues | hir hir hirach
"""

# objects | English base third past-participle [preposition] | German infinitive first second third participle
# [sein] [dat] [preposition] | Spanish infinitive first third participle | French infinitive first second third
# first-plural third-plural participle (or, for a regular -er verb, the infinitive alone) | Welsh verb-noun
# [preposition]. A German infinitive with a bar (an|rufen) is separable. Objects: p people and animals, n animals,
# r readable, f food, d drink, t things, o all things and places that can be owned, - none, > a thing to somebody.
_VERBS = """
p | see sees seen | sehen sehe siehst sieht gesehen | ver veo ve visto | voir vois vois voit voyons voient vu | gweld
pt | hear hears heard | hören höre hörst hört gehört | escuchar escucho escucha escuchado | entendre entends entends entend entendons entendent entendu | clywed
p | love loves loved | lieben liebe liebst liebt geliebt | amar amo ama amado | aimer | caru
p | know knows known | kennen kenne kennst kennt gekannt | conocer conozco conoce conocido | connaître connais connais connaît connaissons connaissent connu | adnabod
p | help helps helped | helfen helfe hilfst hilft geholfen dat | ayudar ayudo ayuda ayudado | aider | helpu
p | invite invites invited | ein|laden lade lädst lädt eingeladen | invitar invito invita invitado | inviter | gwahodd
p | follow follows followed | folgen folge folgst folgt gefolgt sein dat | seguir sigo sigue seguido | suivre suis suis suit suivons suivent suivi | dilyn
p | call calls called | an|rufen rufe rufst ruft angerufen | llamar llamo llama llamado | appeler appelle appelles appelle appelons appellent appelé | ffonio
pto | look looks looked for | suchen suche suchst sucht gesucht | buscar busco busca buscado | chercher | chwilio am
p | greet greets greeted | grüßen grüße grüßt grüßt gegrüßt | saludar saludo saluda saludado | saluer | cyfarch
p | wait waits waited for | warten warte wartest wartet gewartet auf | esperar espero espera esperado | attendre attends attends attend attendons attendent attendu | aros am
p | understand understands understood | verstehen verstehe verstehst versteht verstanden | entender entiendo entiende entendido | comprendre comprends comprends comprend comprenons comprennent compris | deall
pt | find finds found | finden finde findest findet gefunden | encontrar encuentro encuentra encontrado | trouver | darganfod
pr | forget forgets forgotten | vergessen vergesse vergisst vergisst vergessen | olvidar olvido olvida olvidado | oublier | anghofio
pt | paint paints painted | malen male malst malt gemalt | pintar pinto pinta pintado | peindre peins peins peint peignons peignent peint | peintio
p | watch watches watched | beobachten beobachte beobachtest beobachtet beobachtet | observar observo observa observado | observer | gwylio
p | kiss kisses kissed | küssen küsse küsst küsst geküsst | besar beso besa besado | embrasser | cusanu
nt | wash washes washed | waschen wasche wäschst wäscht gewaschen | lavar lavo lava lavado | laver | golchi
n | feed feeds fed | füttern füttere fütterst füttert gefüttert | alimentar alimento alimenta alimentado | nourrir nourris nourris nourrit nourrissons nourrissent nourri | bwydo
pt | look looks looked at | an|schauen schaue schaust schaut angeschaut | mirar miro mira mirado | regarder | edrych ar
tfr | buy buys bought | kaufen kaufe kaufst kauft gekauft | comprar compro compra comprado | acheter achète achètes achète achetons achètent acheté | prynu
tfrn | sell sells sold | verkaufen verkaufe verkaufst verkauft verkauft | vender vendo vende vendido | vendre vends vends vend vendons vendent vendu | gwerthu
r | read reads read | lesen lese liest liest gelesen | leer leo lee leído | lire lis lis lit lisons lisent lu | darllen
r | write writes written | schreiben schreibe schreibst schreibt geschrieben | escribir escribo escribe escrito | écrire écris écris écrit écrivons écrivent écrit | ysgrifennu
f | eat eats eaten | essen esse isst isst gegessen | comer como come comido | manger mange manges mange mangeons mangent mangé | bwyta
d | drink drinks drunk | trinken trinke trinkst trinkt getrunken | beber bebo bebe bebido | boire bois bois boit buvons boivent bu | yfed
ntf | carry carries carried | tragen trage trägst trägt getragen | llevar llevo lleva llevado | porter | cario
t | clean cleans cleaned | putzen putze putzt putzt geputzt | limpiar limpio limpia limpiado | nettoyer nettoie nettoies nettoie nettoyons nettoient nettoyé | glanhau
t | open opens opened | auf|machen mache machst macht aufgemacht | abrir abro abre abierto | ouvrir ouvre ouvres ouvre ouvrons ouvrent ouvert | agor
t | close closes closed | zu|machen mache machst macht zugemacht | cerrar cierro cierra cerrado | fermer | cau
tn | lose loses lost | verlieren verliere verlierst verliert verloren | perder pierdo pierde perdido | perdre perds perds perd perdons perdent perdu | colli
t | break breaks broken | zerbrechen zerbreche zerbrichst zerbricht zerbrochen | romper rompo rompe roto | casser | torri
tf | steal steals stolen | stehlen stehle stiehlst stiehlt gestohlen | robar robo roba robado | voler | dwyn
t | repair repairs repaired | reparieren repariere reparierst repariert repariert | reparar reparo repara reparado | réparer | trwsio
tfdr | bring brings brought | mit|bringen bringe bringst bringt mitgebracht | traer traigo trae traído | apporter | dod â
t | use uses used | benutzen benutze benutzt benutzt benutzt | usar uso usa usado | utiliser | defnyddio
tf | hide hides hidden | verstecken verstecke versteckst versteckt versteckt | esconder escondo esconde escondido | cacher | cuddio
f | cook cooks cooked | kochen koche kochst kocht gekocht | cocinar cocino cocina cocinado | cuisiner | coginio
> | give gives given | geben gebe gibst gibt gegeben | dar doy da dado | donner | rhoi
> | show shows shown | zeigen zeige zeigst zeigt gezeigt | mostrar muestro muestra mostrado | montrer | dangos
> | send sends sent | schicken schicke schickst schickt geschickt | enviar envío envía enviado | envoyer envoie envoies envoie envoyons envoient envoyé | anfon
> | sell sells sold | verkaufen verkaufe verkaufst verkauft verkauft | vender vendo vende vendido | vendre vends vends vend vendons vendent vendu | gwerthu
- | sleep sleeps slept | schlafen schlafe schläfst schläft geschlafen | dormir duermo duerme dormido | dormir dors dors dort dormons dorment dormi | cysgu
- | sing sings sung | singen singe singst singt gesungen | cantar canto canta cantado | chanter | canu
- | work works worked | arbeiten arbeite arbeitest arbeitet gearbeitet | trabajar trabajo trabaja trabajado | travailler | gweithio
- | dance dances danced | tanzen tanze tanzt tanzt getanzt | bailar bailo baila bailado | danser | dawnsio
- | swim swims swum | schwimmen schwimme schwimmst schwimmt geschwommen sein | nadar nado nada nadado | nager nage nages nage nageons nagent nagé | nofio
- | run runs run | laufen laufe läufst läuft gelaufen sein | correr corro corre corrido | courir cours cours court courons courent couru | rhedeg
- | cry cries cried | weinen weine weinst weint geweint | llorar lloro llora llorado | pleurer | crio
- | play plays played | spielen spiele spielst spielt gespielt | jugar juego juega jugado | jouer | chwarae
- | speak speaks spoken | sprechen spreche sprichst spricht gesprochen | hablar hablo habla hablado | parler | siarad
- | listen listens listened | zu|hören höre hörst hört zugehört | escuchar escucho escucha escuchado | écouter | gwrando
- | travel travels travelled | reisen reise reist reist gereist sein | viajar viajo viaja viajado | voyager voyage voyages voyage voyageons voyagent voyagé | teithio
"""

# position | English | German | Spanish | French | Welsh. Position: the preposition governs the dative in German;
# Spanish and French ones may end in "de", which contracts with the article.
PREPOSITIONS: dict[str, dict[str, str]] = {
    "in": {"en": "in", "de": "in", "es": "en", "fr": "dans", "cy": "yn"},
    "on": {"en": "on", "de": "auf", "es": "sobre", "fr": "sur", "cy": "ar"},
    "under": {"en": "under", "de": "unter", "es": "debajo de", "fr": "sous", "cy": "o dan"},
    "behind": {"en": "behind", "de": "hinter", "es": "detrás de", "fr": "derrière", "cy": "y tu ôl i"},
    "beside": {"en": "next to", "de": "neben", "es": "al lado de", "fr": "à côté de", "cy": "wrth ymyl"},
    "before": {"en": "in front of", "de": "vor", "es": "delante de", "fr": "devant", "cy": "o flaen"},
}

# tenses | English | German | Spanish | French | Welsh. Tenses: r present, f future, x perfect, m modal.
_TIMES = """
rfm | today | heute | hoy | aujourd'hui | heddiw
fm | tomorrow | morgen | mañana | demain | yfory
rm | now | jetzt | ahora | maintenant | nawr
r | every day | jeden Tag | todos los días | tous les jours | bob dydd
rfm | in the morning | am Morgen | por la mañana | le matin | yn y bore
rfm | in the afternoon | am Nachmittag | por la tarde | l'après-midi | yn y prynhawn
rfm | at night | in der Nacht | por la noche | la nuit | yn y nos
r | often | oft | a menudo | souvent | yn aml
r | always | immer | siempre | toujours | bob amser
x | already | schon | ya | déjà | yn barod
rfm | on Monday | am Montag | el lunes | lundi | ddydd Llun
rfm | on Tuesday | am Dienstag | el martes | mardi | ddydd Mawrth
rfm | on Wednesday | am Mittwoch | el miércoles | mercredi | ddydd Mercher
rfm | on Thursday | am Donnerstag | el jueves | jeudi | ddydd Iau
rfm | on Friday | am Freitag | el viernes | vendredi | ddydd Gwener
rfm | on Saturday | am Samstag | el sábado | samedi | ddydd Sadwrn
rfm | on Sunday | am Sonntag | el domingo | dimanche | ddydd Sul
"""

NUMBERS: dict[int, dict[str, str]] = {
    1: {"en": "one", "de": "ein", "es": "la una", "fr": "une heure", "cy": "un"},
    2: {"en": "two", "de": "zwei", "es": "dos", "fr": "deux", "cy": "dau"},
    3: {"en": "three", "de": "drei", "es": "tres", "fr": "trois", "cy": "tri"},
    4: {"en": "four", "de": "vier", "es": "cuatro", "fr": "quatre", "cy": "pedwar"},
    5: {"en": "five", "de": "fünf", "es": "cinco", "fr": "cinq", "cy": "pump"},
    6: {"en": "six", "de": "sechs", "es": "seis", "fr": "six", "cy": "chwech"},
    7: {"en": "seven", "de": "sieben", "es": "siete", "fr": "sept", "cy": "saith"},
    8: {"en": "eight", "de": "acht", "es": "ocho", "fr": "huit", "cy": "wyth"},
    9: {"en": "nine", "de": "neun", "es": "nueve", "fr": "neuf", "cy": "naw"},
    10: {"en": "ten", "de": "zehn", "es": "diez", "fr": "dix", "cy": "deg"},
    11: {"en": "eleven", "de": "elf", "es": "once", "fr": "onze", "cy": "un ar ddeg"},
    12: {"en": "twelve", "de": "zwölf", "es": "doce", "fr": "douze", "cy": "deuddeg"},
}


@dataclass(frozen=True)
class Noun:
    """A noun in five languages: `kind` is person, animal, readable, food, drink, thing, place or name."""

    key: str
    kind: str
    forms: dict[str, tuple[str, ...]]

    def gender(self, language: str) -> str:
        return self.forms[language][0]

    def form(self, language: str, plural: bool) -> str:
        return self.forms[language][2 if plural else 1]

    @property
    def countable(self) -> bool:
        return self.forms["en"][2] != "-"

    @property
    def animate(self) -> bool:
        return self.kind in ("person", "animal", "name")


@dataclass(frozen=True)
class Adjective:
    """An adjective; `kind` says what it describes, a letter each: p people, n animals, t things, l places."""

    key: str
    kind: str
    forms: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Verb:
    """A verb; `objects` says which kinds of object it takes (see the table)."""

    key: str
    objects: str
    forms: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Time:
    """An adverb of time; `tenses` says with which tenses it goes."""

    key: str
    tenses: str
    forms: dict[str, str]


@dataclass(frozen=True)
class Lexicon:
    """Everything that the grammar chooses from."""

    nouns: tuple[Noun, ...]
    adjectives: tuple[Adjective, ...]
    verbs: tuple[Verb, ...]
    times: tuple[Time, ...]


def _rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]


def _verb_rows(table: str) -> list[list[str]]:
    """As `_rows`, but a bar inside a word (an|rufen) does not end a column."""
    return [[cell.strip() for cell in line.split(" | ")] for line in table.strip().splitlines()]


def _nouns(table: str, kind: str) -> list[Noun]:
    nouns = []
    for english, *others in _rows(table):
        forms = {"en": ("n", *english.split())}
        forms |= {language: tuple(cell.split()) for language, cell in zip(LANGUAGES[1:], others, strict=True)}
        nouns.append(Noun(english.split()[0], kind, forms))
    return nouns


# What the demo talks about: enough that no test sentence was ever trained on, and little enough that a network of a few
# layers learns to hear and to say every word of it in minutes.
_COMMON = {
    "nouns": """man woman child girl mother friend doctor teacher king queen dog cat horse bird bear book letter apple
        cake bread coffee milk car table bag hat flower box garden kitchen school house city forest
        Anna Eva David Paul""".split(),
    "adjectives": "big small old young good red white happy cold".split(),
    "verbs": (
        *"see hear love help invite buy read eat drink carry open feed give show sleep sing work run play".split(),
        "look for",
    ),
    "times": ("today", "tomorrow", "now", "in the morning", "at night", "already", "on Monday", "on Friday"),
}


@lru_cache(maxsize=1)
def common_lexicon() -> Lexicon:
    """The part of the tables that the demo draws its sentences from: about 100 concepts, numbers included."""
    everything = load_lexicon()
    return Lexicon(
        **{
            name: tuple(word for word in getattr(everything, name) if word.key in keys)
            for name, keys in _COMMON.items()
        }
    )


@lru_cache(maxsize=1)
def load_lexicon() -> Lexicon:
    """The parsed tables."""
    nouns: list[Noun] = []
    tables = {"person": _PEOPLE, "animal": _ANIMALS, "readable": _READABLE, "food": _FOOD, "drink": _DRINK}
    for kind, table in {**tables, "thing": _THINGS, "place": _PLACES}.items():
        nouns += _nouns(table, kind)
    for name in NAMES:
        gender = "f" if name in FEMALE_NAMES else "m"
        nouns.append(Noun(name, "name", dict.fromkeys(LANGUAGES, (gender, name, "-"))))
    adjectives = []
    for kind, *cells in _rows(_ADJECTIVES):
        forms = {language: tuple(cell.split()) for language, cell in zip(LANGUAGES, cells, strict=True)}
        adjectives.append(Adjective(forms["en"][0], kind, forms))
    verbs = []
    for kind, *cells in _verb_rows(_VERBS):
        forms = {language: tuple(cell.split()) for language, cell in zip(LANGUAGES, cells, strict=True)}
        verbs.append(Verb(" ".join(forms["en"][:1] + forms["en"][3:]), kind, forms))
    times = [Time(row[1], row[0], dict(zip(LANGUAGES, row[1:], strict=True))) for row in _rows(_TIMES)]
    return Lexicon(tuple(nouns), tuple(adjectives), tuple(verbs), tuple(times))
