//! The datasets that a sweep file can name without listing their domains and classes.

use crate::trial::{DatasetSpec, Layout, MissingClasses, SplitBy};

struct Entry {
    folder: &'static str,
    split_by: SplitBy,
    domains: &'static str,
    classes: &'static str,
}

/// Domains and classes sorted, separated by spaces or else by commas, as the folders below the data root are named (docs/protocol.md, "Data protocol").
const ENTRIES: &[Entry] = &[
    // The probability that a digit's colour disagrees with its label (DomainBed's environments, in its order).
    Entry { folder: "ColoredMNIST", split_by: SplitBy::Image, domains: "0.1 0.2 0.9", classes: "0 1" },
    Entry {
        folder: "EmojiStyles",
        split_by: SplitBy::Stem,
        domains: "flat mono noto openmoji",
        classes: "activities animals_nature food_drink objects smileys_emotion symbols travel_places",
    },
    Entry {
        folder: "domain_net",
        split_by: SplitBy::Image,
        domains: "clipart infograph painting quickdraw real sketch",
        classes: DOMAIN_NET,
    },
    Entry {
        folder: "office_home",
        split_by: SplitBy::Image,
        domains: "Art,Clipart,Product,Real World",
        classes: OFFICE_HOME,
    },
    Entry {
        folder: "PACS",
        split_by: SplitBy::Image,
        domains: "art_painting cartoon photo sketch",
        classes: "dog elephant giraffe guitar horse house person",
    },
    // The angle, in degrees.
    Entry {
        folder: "RotatedMNIST",
        split_by: SplitBy::Image,
        domains: "0 15 30 45 60 75",
        classes: "0 1 2 3 4 5 6 7 8 9",
    },
    Entry {
        folder: "VLCS",
        split_by: SplitBy::Image,
        domains: "Caltech101 LabelMe SUN09 VOC2007",
        classes: "bird car chair dog person",
    },
    Entry {
        folder: "terra_incognita",
        split_by: SplitBy::Image,
        domains: "location_100 location_38 location_43 location_46",
        classes: "bird bobcat cat coyote dog empty opossum rabbit raccoon squirrel",
    },
];

const OFFICE_HOME: &str = "Alarm_Clock Backpack Batteries Bed Bike Bottle Bucket Calculator Calendar Candles Chair Clipboards Computer Couch \
              Curtains Desk_Lamp Drill Eraser Exit_Sign Fan File_Cabinet Flipflops Flowers Folder Fork Glasses Hammer Helmet Kettle \
              Keyboard Knives Lamp_Shade Laptop Marker Monitor Mop Mouse Mug Notebook Oven Pan Paper_Clip Pen Pencil Postit_Notes \
              Printer Push_Pin Radio Refrigerator Ruler Scissors Screwdriver Shelf Sink Sneakers Soda Speaker Spoon TV Table \
              Telephone ToothBrush Toys Trash_Can Webcam";

const DOMAIN_NET: &str = "The_Eiffel_Tower The_Great_Wall_of_China The_Mona_Lisa aircraft_carrier airplane alarm_clock ambulance angel \
              animal_migration ant anvil apple arm asparagus axe backpack banana bandage barn baseball baseball_bat basket \
              basketball bat bathtub beach bear beard bed bee belt bench bicycle binoculars bird birthday_cake blackberry blueberry \
              book boomerang bottlecap bowtie bracelet brain bread bridge broccoli broom bucket bulldozer bus bush butterfly cactus \
              cake calculator calendar camel camera camouflage campfire candle cannon canoe car carrot castle cat ceiling_fan \
              cell_phone cello chair chandelier church circle clarinet clock cloud coffee_cup compass computer cookie cooler couch \
              cow crab crayon crocodile crown cruise_ship cup diamond dishwasher diving_board dog dolphin donut door dragon dresser \
              drill drums duck dumbbell ear elbow elephant envelope eraser eye eyeglasses face fan feather fence finger fire_hydrant \
              fireplace firetruck fish flamingo flashlight flip_flops floor_lamp flower flying_saucer foot fork frog frying_pan \
              garden garden_hose giraffe goatee golf_club grapes grass guitar hamburger hammer hand harp hat headphones hedgehog \
              helicopter helmet hexagon hockey_puck hockey_stick horse hospital hot_air_balloon hot_dog hot_tub hourglass house \
              house_plant hurricane ice_cream jacket jail kangaroo key keyboard knee knife ladder lantern laptop leaf leg light_bulb \
              lighter lighthouse lightning line lion lipstick lobster lollipop mailbox map marker matches megaphone mermaid \
              microphone microwave monkey moon mosquito motorbike mountain mouse moustache mouth mug mushroom nail necklace nose \
              ocean octagon octopus onion oven owl paint_can paintbrush palm_tree panda pants paper_clip parachute parrot passport \
              peanut pear peas pencil penguin piano pickup_truck picture_frame pig pillow pineapple pizza pliers police_car pond \
              pool popsicle postcard potato power_outlet purse rabbit raccoon radio rain rainbow rake remote_control rhinoceros \
              rifle river roller_coaster rollerskates sailboat sandwich saw saxophone school_bus scissors scorpion screwdriver \
              sea_turtle see_saw shark sheep shoe shorts shovel sink skateboard skull skyscraper sleeping_bag smiley_face snail \
              snake snorkel snowflake snowman soccer_ball sock speedboat spider spoon spreadsheet square squiggle squirrel stairs \
              star steak stereo stethoscope stitches stop_sign stove strawberry streetlight string_bean submarine suitcase sun swan \
              sweater swing_set sword syringe t-shirt table teapot teddy-bear telephone television tennis_racquet tent tiger toaster \
              toe toilet tooth toothbrush toothpaste tornado tractor traffic_light train tree triangle trombone truck trumpet \
              umbrella underwear van vase violin washing_machine watermelon waterslide whale wheel windmill wine_bottle wine_glass \
              wristwatch yoga zebra zigzag";

/// The names that [`find`] knows, for messages.
pub fn names() -> Vec<&'static str> {
    ENTRIES.iter().map(|entry| entry.folder).collect()
}

/// A dataset of the catalogue by its folder's name.
pub fn find(name: &str) -> Option<DatasetSpec> {
    let entry = ENTRIES.iter().find(|entry| entry.folder == name)?;
    // Only folders with a space in their name are listed with commas.
    let words =
        |text: &str| text.split(if text.contains(',') { ',' } else { ' ' }).map(str::to_owned).collect();
    Some(DatasetSpec {
        name: entry.folder.to_owned(),
        domains: words(entry.domains),
        classes: words(entry.classes),
        split_by: entry.split_by,
        layout: Layout::default(),
        missing_classes: MissingClasses::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_and_classes_are_sorted_and_distinct() {
        for name in names() {
            let dataset = find(name).unwrap();
            for list in [&dataset.domains, &dataset.classes] {
                assert!(list.is_sorted_by(|a, b| a < b), "{name}: {list:?}");
            }
        }
        let classes = |name: &str| find(name).unwrap().classes.len();
        assert_eq!(
            ["VLCS", "PACS", "office_home", "terra_incognita", "domain_net"].map(classes),
            [5, 7, 65, 10, 345]
        );
    }
}
