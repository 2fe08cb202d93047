"""Who is who: patient records, persons, links with history, the ADT feed."""
