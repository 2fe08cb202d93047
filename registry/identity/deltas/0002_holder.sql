-- What a person holds is read with every answer.
CREATE INDEX national_number_person ON national_number (person_key) WHERE person_key IS NOT NULL;
